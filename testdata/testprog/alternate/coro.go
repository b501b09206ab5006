//go:build go1.23

package main

import "iter"

//go:noinline
func yieldP(n int, yield func(int) bool) (byte, bool) {
	var big [pad]byte
	big[3] = 1
	ok := yield(n)
	return big[n%7], ok
}

//go:noinline
func yieldQ(n int, yield func(int) bool) (byte, bool) {
	var big [pad]byte
	big[3] = 1
	ok := yield(n)
	return big[n%7], ok
}

func generate(yield func(int) bool) {
	for n := 0; ; n++ {
		yieldP(n, yield) // site: yieldP
		yieldQ(n, yield) // site: yieldQ
	}
}

func switching() {
	go func() {
		next, _ := iter.Pull(generate)
		for {
			next()
		}
	}()
}
