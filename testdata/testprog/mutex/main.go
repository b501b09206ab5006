// Command mutex waits for a lock: see [work.Mutex].
package main

import "testprog/internal/work"

func main() { work.Main(work.Mutex, 20) }
