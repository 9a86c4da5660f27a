package main

import (
	"fmt"
	"net/http"
	"os"

	"example.com/shop/shared"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, shared.Word) })
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
