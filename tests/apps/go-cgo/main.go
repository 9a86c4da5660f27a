package main

// #include <stdlib.h>
// static int twice(int number) { return 2 * number; }
import "C"

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "twice 21 is", C.twice(21))
	})
	http.ListenAndServe(":"+os.Getenv("PORT"), nil)
}
