// Command gc forces garbage collections: see [work.GC].
package main

import "testprog/internal/work"

func main() { work.Main(work.GC, 20) }
