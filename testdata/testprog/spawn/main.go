// Command spawn starts goroutines from one go statement: see [work.Spawn].
package main

import "testprog/internal/work"

func main() { work.Main(work.Spawn, 1000) }
