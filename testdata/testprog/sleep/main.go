// Command sleep sleeps: see [work.Sleep].
package main

import "testprog/internal/work"

func main() { work.Main(work.Sleep, 50) }
