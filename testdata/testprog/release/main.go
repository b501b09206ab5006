// Command release parks goroutines in many ways and lets them go: see
// [work.Release].
package main

import "testprog/internal/work"

func main() { work.Main(work.Release, 0) }
