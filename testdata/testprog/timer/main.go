// Command timer starts goroutines from timers: see [work.Timer].
package main

import "testprog/internal/work"

func main() { work.Main(work.Timer, 50) }
