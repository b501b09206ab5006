// Command gopherscope shows what every goroutine of a live Go process is doing.
// See gopherscope help, or the README.
package main

import (
	"os"

	"gopherscope/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
