package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	page, err := os.ReadFile("templates/page.txt")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}
