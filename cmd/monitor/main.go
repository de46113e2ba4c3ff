// Command monitor turns the machine it runs on into a crew of coding workers.
//
// main is only the edge: it makes a Program of the process's own streams and
// environment and exits with its code. Everything the program does is in
// Program, which tests build with a temporary folder.
package main

import (
	"context"
	"os"

	"monitor/internal/secret"
)

func main() { os.Exit(run()) }

func run() int {
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	p, err := Open(Config{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Unsetenv: secret.Unsetenv, Dir: dir, Signals: true,
	})
	if err != nil {
		return fail(os.Stderr, err)
	}
	defer p.Close()
	return p.Run(context.Background(), os.Args[1:])
}
