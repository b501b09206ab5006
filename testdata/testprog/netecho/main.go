// Command netecho talks to itself over loopback TCP: see [work.NetEcho].
package main

import "testprog/internal/work"

func main() { work.Main(work.NetEcho, 200) }
