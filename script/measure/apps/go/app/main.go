// A small service with a database driver, as many are.
package main

import (
	"database/sql"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	_ "github.com/jackc/pgx/v5/stdlib"
)

const greeting = "Hello from MARKER"

func main() {
	router := chi.NewRouter()
	router.Use(middleware.Recoverer)
	router.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(greeting + "\n"))
	})
	router.Get("/database", func(w http.ResponseWriter, _ *http.Request) {
		database, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
		if err == nil {
			err = database.Ping()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), router))
}
