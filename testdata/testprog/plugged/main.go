//go:build cgo && !nocgocode

// Command plugged loads a plugin at the first line of its stdin, calls it and checks what
// it gives at each, and prints "done"; at the end of stdin it ends with 0. What is wrong ends
// it with 3.
//
//	plugged PLUGIN
package main

import (
	"bufio"
	"fmt"
	"os"
	"plugin"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "WRONG", err)
		os.Exit(3)
	}
}

func main() {
	fmt.Println("ready")
	var work func(int) int
	for in := bufio.NewScanner(os.Stdin); in.Scan(); fmt.Println("done") {
		if work == nil {
			p, err := plugin.Open(os.Args[1])
			check(err)
			f, err := p.Lookup("Work")
			check(err)
			work = f.(func(int) int)
		}
		if got := work(1000); got != 500500 {
			check(fmt.Errorf("1 to 1000 sum to %d", got))
		}
	}
}
