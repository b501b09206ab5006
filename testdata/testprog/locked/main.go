// Command locked runs a goroutine that is locked to its thread: see [work.Locked].
package main

import "testprog/internal/work"

func main() { work.Main(work.Locked, 200) }
