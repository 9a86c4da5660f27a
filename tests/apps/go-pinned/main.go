package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "pinned", runtime.Version())
	})
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
