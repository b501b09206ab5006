// Package goruntime holds facts about the Go runtime and nothing else: what
// goroutine statuses and wait reasons mean, which struct fields the other
// packages need, and which Go versions are known. It reads no file and no
// process; facts that differ from binary to binary (offsets, reason numbers)
// come from package gobinary.
//
// Everything here is a constant or a pure function, safe for concurrent use.
package goruntime
