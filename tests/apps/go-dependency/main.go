package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/google/uuid"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "uuid of ", len(uuid.NewString()), " characters") })
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
