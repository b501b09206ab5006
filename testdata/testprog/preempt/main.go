// Command preempt spins on every P and more: see [work.Preempt].
package main

import "testprog/internal/work"

func main() { work.Main(work.Preempt, 200) }
