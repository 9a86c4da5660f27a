package main

import "fmt"

// The name below is spelt wrong.
func main() {
	fmt.Println(greeting)
}
