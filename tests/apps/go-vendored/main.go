package main

import (
	"fmt"
	"net/http"
	"os"

	"example.com/word"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, word.Word) })
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
