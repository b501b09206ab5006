// Command pingpong hands a token between two goroutines: see [work.PingPong].
package main

import "testprog/internal/work"

func main() { work.Main(work.PingPong, 1000) }
