// Command yield gives up its P again and again: see [work.Yield].
package main

import "testprog/internal/work"

func main() { work.Main(work.Yield, 1000) }
