module example.com/pinned

// +heroku goVersion go1.22
go 1.21
