//go:build !cgo || nocgocode

package main

func cgoParts() []*part  { return nil }
func forkParts() []*part { return nil }
