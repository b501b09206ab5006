//go:build go1.23

package main

import (
	"iter"
	"time"
)

func coroutineParts() []*part { return []*part{{name: "coro", run: coroutines}} }

func coroutines(done func()) {
	for {
		next, stop := iter.Pull(func(yield func(int) bool) {
			for i := 0; yield(i); i++ {
			}
		})
		for i := 0; i < 300; i++ {
			if n, ok := next(); !ok || n != i {
				wrong("coroutine: %d, %v, not %d", n, ok, i)
			}
		}
		stop()
		done()
		time.Sleep(2 * time.Millisecond)
	}
}
