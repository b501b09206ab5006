// Command syscall makes short system calls: see [work.Syscall].
package main

import "testprog/internal/work"

func main() { work.Main(work.Syscall, 1000) }
