//go:build !go1.23

package main

func coroutineParts() []*part { return nil }
