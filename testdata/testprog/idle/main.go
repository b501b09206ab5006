// Command idle parks goroutines in every way and keeps them so: see [work.Idle].
package main

import "testprog/internal/work"

func main() { work.Main(work.Idle, 0) }
