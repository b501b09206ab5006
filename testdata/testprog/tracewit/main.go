// Command tracewit runs every behaviour while its own execution tracer writes
// to the file given as its first argument; the second is the number of rounds.
// The file is the runtime's own testimony, to compare a tracer's with.
package main

import (
	"fmt"
	"os"
	"runtime/trace"
	"strconv"

	"testprog/internal/work"
)

func main() {
	work.Wait()
	n := 50
	if len(os.Args) > 2 {
		n = must(strconv.Atoi(os.Args[2]))
	}
	f := must(os.Create(os.Args[1]))
	must(f, trace.Start(f))
	work.All(n)
	trace.Stop()
	must(f, f.Close())
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, "tracewit:", err)
		os.Exit(1)
	}
	return v
}
