//go:build !cgo || nocgocode

package main

func withC() {}
