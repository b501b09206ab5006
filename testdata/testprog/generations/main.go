// Command generations always has the same number of short-lived goroutines: see
// [work.Generations].
package main

import "testprog/internal/work"

func main() { work.Main(work.Generations, 50) }
