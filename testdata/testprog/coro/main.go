// Command coro switches coroutines, from Go 1.23 on: see [work.Coro].
package main

import "testprog/internal/work"

func main() { work.Main(work.Coro, 1000) }
