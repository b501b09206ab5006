//go:build !cgo || nocgocode

package main

func cgoParts() []*part { return nil }
