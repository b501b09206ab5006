// Package process finds, describes, launches and follows Linux processes, and
// reads their memory. It knows nothing of Go programs: what a process executes
// is for the packages above to judge.
//
// A [Process] is tied to one process and to one program image. A pidfd holds
// the process and a descriptor of /proc/PID/mem holds the image, both taken in
// [Open]. A PID is not reused while the process that a pidfd refers to has not
// been reaped, so after each access by number the pidfd is asked whether the
// process is still alive: if it is, then the access met that very process, and
// otherwise the answer is thrown away and the error is [ErrExited]. In the
// same way an execve gives [ErrExec], never the memory of another program.
//
// To find and describe processes needs no privileges beyond those of ps(1).
// Executable, mappings, namespaces and memory of a process are open to its own
// user and to CAP_SYS_PTRACE (ptrace(2), "Ptrace access mode checking"); others
// get [ErrPermission].
//
// Linux 5.10 or newer is needed for non-blocking pidfds.
package process
