// Command all runs every behaviour, one after the other: see [work.All].
package main

import "testprog/internal/work"

func main() { work.Main(work.All, 200) }
