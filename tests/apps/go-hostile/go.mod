module example.com/hostile

// +heroku install ./cmd/web;id ./cmd/$(id) -o=/etc/passwd ./cmd/web
// +heroku goVersion go1.27
go 1.21
