//go:build !cgo || nocgocode

package main

func callC(int) func(*part) { return func(*part) {} }

func callBack(*part) {}
