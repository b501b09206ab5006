// Command cgocall calls C and is called by C, when built with cgo: see [work.Cgo].
package main

import "testprog/internal/work"

func main() { work.Main(work.Cgo, 200) }
