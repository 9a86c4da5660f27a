package main

import (
	_ "embed"
	"net/http"
	"os"
)

//go:embed dist/app.js
var script []byte

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.Write(script) })
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
