package work

// All runs each behaviour, with n for those whose rounds are cheap and a tenth
// of it for those that sleep or stop the world.
func All(n int) {
	few := n/10 + 1
	PingPong(n)
	Spawn(n)
	Yield(n)
	Mutex(few)
	Locked(n)
	Syscall(n)
	BlockSys(3)
	Sleep(few)
	Timer(few)
	NetEcho(n)
	Coro(n)
	Cgo(n)
	Preempt(60)
	GC(few)
}
