// Command blocksys makes system calls that block: see [work.BlockSys].
package main

import "testprog/internal/work"

func main() { work.Main(work.BlockSys, 5) }
