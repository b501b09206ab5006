// Command parked has many goroutines that wait, and two that do not: see [work.Parked].
package main

import "testprog/internal/work"

func main() { work.Main(work.Parked, 2000) }
