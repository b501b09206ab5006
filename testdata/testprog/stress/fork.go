//go:build cgo && !nocgocode

package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

// forked has a child add up to n, or execute a program, and returns what it exits with.
static int forked(int n, int program) {
	int status, sum = 0;
	pid_t pid = fork();
	if (pid == 0) {
		if (program) {
			execlp("sh", "sh", "-c", "exit 7", (char *)0);
			_exit(127);
		}
		for (int i = 1; i <= n; i++)
			sum += i;
		_exit(sum);
	}
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

// loaded calls a function of a library that is loaded for it and unloaded then.
static double loaded(double x) {
	void *lib = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return -1;
	double (*f)(double) = (double (*)(double))dlsym(lib, "sqrt");
	x = f ? f(x) : -2;
	return dlclose(lib) ? -3 : x;
}
*/
import "C"

import "time"

func forkParts() []*part {
	return []*part{{name: "fork", run: forks}, {name: "library", run: libraries}}
}

// forks makes copies of the process, with all that is in its memory, in C as no Go program can.
func forks(done func()) {
	for {
		if got := C.forked(20, 0); got != 210 {
			wrong("a forked child gave %d, not 210", got)
		}
		if got := C.forked(0, 1); got != 7 {
			wrong("a program executed by a forked child gave %d, not 7", got)
		}
		done()
		time.Sleep(40 * time.Millisecond)
	}
}

// libraries maps and unmaps foreign code.
func libraries(done func()) {
	for i := 1; ; i = i%1000 + 1 {
		if got := C.loaded(C.double(i * i)); got != C.double(i) {
			wrong("the root of %d in a library is %v", i*i, got)
		}
		done()
		time.Sleep(10 * time.Millisecond)
	}
}
