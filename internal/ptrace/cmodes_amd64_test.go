package ptrace_test

// integritySource is the mode "integrity": a main thread that watches itself.
const integritySource = `
static void on_tick(int sig, siginfo_t *si, void *uc) { facts.ticks++; facts.inside++; }
static void on_urgent(int sig, siginfo_t *si, void *uc) { facts.urgent++; facts.inside++; }
static void on_queued(int sig, siginfo_t *si, void *uc) {
	if (si->si_code != SI_QUEUE || (uint64_t)(uint32_t)si->si_value.sival_int != facts.queued)
		wrong(WRONG_QUEUE);
	facts.queued++;
	facts.inside++;
}

static double checksum(uint64_t *bits) {
	double d = 1;
	uint64_t n = 1;
	for (int i = 0; i < 20000; i++) {
		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
		d = d * 0.999 + (double)(n >> 40) / 3;
	}
	*bits = n;
	return d;
}

static void check_registers(void) {
	int size = vectors == 2 ? 64 : vectors == 1 ? 32 : 16, n = vectors == 2 ? 32 : 16;
	if (holds())
		wrong(WRONG_GPR);
	for (int i = 0; i < n; i++)
		if (memcmp(vec[i], gotvec[i], size))
			wrong(WRONG_VEC);
	for (int i = 1; vectors == 2 && i < 8; i++)
		if ((uint16_t)opmask[i] != (uint16_t)gotmask[i])
			wrong(WRONG_VEC);
	if (gotmxcsr != mxcsr || gotfcw != fcw || gotst[1] != 1 || gotst[0] < 3.14159 || gotst[0] > 3.1416)
		wrong(WRONG_FPU);
}

static void check_kernel(long pid, uint64_t mask) {
	struct timespec t = {0, 20000};
	uint64_t inside = facts.inside, m = 0;
	long rc = raw(SYS_nanosleep, (long)&t, 0, 0, 0, 0, 0);
	if (rc == -EINTR && facts.inside == inside)
		facts.eintr++;
	else if (rc != 0 && rc != -EINTR)
		wrong(WRONG_CALL);
	if (raw(SYS_getpid, 0, 0, 0, 0, 0, 0) != pid)
		wrong(WRONG_CALL);
	raw(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&m, 8, 0, 0);
	if (m != mask)
		wrong(WRONG_MASK);
	stack_t s = {0};
	sigaltstack(NULL, &s);
	if (s.ss_sp != own.ss_sp || s.ss_size != own.ss_size || s.ss_flags != own.ss_flags)
		wrong(WRONG_STACK);
}

static void *second(void *arg) {
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (;;) {
		facts.other++;
		usleep(100);
	}
	return NULL;
}

static void integrity(void) {
	vectors = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
	for (size_t i = 0; i < 15; i++)
		gpr[i] = 0x0101010101010101ULL * (i + 1) ^ 0xa5a5000000005a5aULL;
	for (size_t i = 0; i < sizeof vec; i++)
		((unsigned char *)vec)[i] = i * 131 + 17;
	for (size_t i = 0; i < 8; i++)
		opmask[i] = 0x1111 * i + 5;
	uint64_t want = 1ULL << (SIGUSR2 - 1), mask = 0, bits0, bits;
	raw(SYS_rt_sigprocmask, SIG_SETMASK, (long)&want, 0, 8, 0, 0);
	raw(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, 8, 0, 0);
	altstack();
	handle(SIGALRM, on_tick, SA_ONSTACK, 0);
	handle(SIGURG, on_urgent, SA_ONSTACK | SA_RESTART, 1);
	handle(SIGRTMIN + 1, on_queued, SA_RESTART, 0);
	pthread_t t;
	pthread_create(&t, NULL, second, NULL);
	long pid = getpid();
	struct itimerval every = {{0, 700}, {0, 700}};
	setitimer(ITIMER_REAL, &every, NULL);
	double sum0 = checksum(&bits0);
	for (ready();; facts.rounds++) {
		check_registers();
		if (checksum(&bits) != sum0 || bits != bits0)
			wrong(WRONG_SUM);
		check_kernel(pid, mask);
	}
}
`

// blockSource is the mode "block": two threads, one of them the main thread, that
// wait in one system call and say how it ended.
const blockSource = `
static const char *call;
static double seconds;
static volatile int ended; // by us: a call that has no timeout may return now
static int pipes[2][2];
static volatile int words[2];
static pthread_t waiting[2];
static int64_t began;

static void on_end(int sig, siginfo_t *si, void *uc) {}

static long blocked(int me) {
	struct timespec rel = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)}, abs;
	struct timeval tv = {rel.tv_sec, rel.tv_nsec / 1000};
	uint64_t usr1 = 1ULL << (SIGUSR2 - 1);
	char c;
	clock_gettime(CLOCK_MONOTONIC, &abs);
	abs.tv_sec += rel.tv_sec;
	if (!strcmp(call, "read"))
		return raw(SYS_read, pipes[me][0], (long)&c, 1, 0, 0, 0);
	if (!strcmp(call, "futex"))
		return raw(SYS_futex, (long)&words[me], FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
	if (!strcmp(call, "futex-timed"))
		return raw(SYS_futex, (long)&words[me], FUTEX_WAIT_PRIVATE, 0, (long)&rel, 0, 0);
	if (!strcmp(call, "nanosleep"))
		return raw(SYS_nanosleep, (long)&rel, (long)&rel, 0, 0, 0, 0);
	if (!strcmp(call, "clock_nanosleep"))
		return raw(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, (long)&abs, 0, 0, 0);
	if (!strcmp(call, "select"))
		return raw(SYS_select, 0, 0, 0, 0, (long)&tv, 0);
	if (!strcmp(call, "poll"))
		return raw(SYS_poll, 0, 0, (long)(seconds * 1000), 0, 0, 0);
	if (!strcmp(call, "ppoll"))
		return raw(SYS_ppoll, 0, 0, (long)&rel, (long)&usr1, 8, 0);
	if (!strcmp(call, "pause"))
		return raw(SYS_pause, 0, 0, 0, 0, 0, 0);
	abort();
}

static void wait_in(int me) {
	long rc = blocked(me);
	printf("result %s %ld %lld %d\n", me ? "other" : "main", rc, (long long)(now() - began), ended);
	fflush(stdout);
}

static void *in_other(void *arg) {
	wait_in(1);
	return NULL;
}

static void *ender(void *arg) {
	line();
	ended = 1;
	for (int i = 0; i < 2; i++) {
		write(pipes[i][1], "x", 1);
		words[i] = 1;
		raw(SYS_futex, (long)&words[i], FUTEX_WAKE_PRIVATE, 1, 0, 0, 0);
		if (!strcmp(call, "pause"))
			pthread_kill(waiting[i], SIGUSR1);
	}
	return NULL;
}

static void block(const char *which, double secs) {
	pthread_t t;
	call = which;
	seconds = secs;
	pipe(pipes[0]);
	pipe(pipes[1]);
	handle(SIGUSR1, on_end, 0, 0);
	waiting[0] = pthread_self();
	pthread_create(&t, NULL, ender, NULL);
	ready();
	began = now();
	pthread_create(&waiting[1], NULL, in_other, NULL);
	wait_in(0);
	pthread_join(waiting[1], NULL);
}
`

// modesSource is the small modes and main.
const modesSource = `
static void on_hold(int sig, siginfo_t *si, void *uc) {
	volatile char deep[24 << 10];
	deep[0] = deep[sizeof deep - 1] = sig;
	facts.inside++;
	while (!facts.go)
		__builtin_ia32_pause();
}

static void handler(int flags, int nested) {
	altstack();
	handle(SIGUSR1, on_hold, flags, !nested);
	handle(SIGUSR2, on_hold, flags, 0);
	ready();
	__asm__ volatile("jmp spin_lo");
}

static void *hang(void *arg) {
	int word = 0;
	struct timespec t = {3600, 0};
	switch ((long)arg % 4) {
	case 0: raw(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0); break;
	case 1: raw(SYS_nanosleep, (long)&t, 0, 0, 0, 0, 0); break;
	case 2: raw(SYS_ppoll, 0, 0, (long)&t, 0, 8, 0); break;
	case 3: line(); break;
	}
	wrong(WRONG_CALL);
	return NULL;
}

static void many(int n) {
	pthread_t t;
	for (long i = 1; i < n; i++)
		if (pthread_create(&t, NULL, hang, (void *)i))
			abort();
	usleep(100000);
	ready();
	for (;;)
		pause();
}

static void *spawner(void *arg) { // each makes the next: there is always a new one
	pthread_t t;
	pthread_attr_t a;
	facts.other++;
	pthread_attr_init(&a);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	while (pthread_create(&t, &a, spawner, NULL))
		usleep(100);
	return NULL;
}

static void churn(void) {
	spawner(NULL);
	spawner(NULL);
	ready();
	line();
}

static void *alone(void *arg) {
	usleep(100000); // the leader is gone
	ready();
	for (;;)
		facts.other++;
	return NULL;
}

static void leader(void) {
	pthread_t t;
	pthread_create(&t, NULL, alone, NULL);
	pthread_exit(NULL);
}

static void forks(void) {
	pthread_t t;
	pthread_create(&t, NULL, second, NULL);
	ready();
	line();
	pid_t child = vfork();
	if (child == 0) {
		struct timespec s = {2, 0};
		raw(SYS_nanosleep, (long)&s, 0, 0, 0, 0, 0);
		_exit(7);
	}
	int status = 0;
	waitpid(child, &status, 0);
	printf("child %d\n", WEXITSTATUS(status));
}

static void deep(void) {
	volatile char *p = alloca(400 << 10);
	for (long i = (400 << 10) - 1; i >= 0; i -= 4096)
		p[i] = 1;
	p[0] = 1;
	ready();
	line();
}

static void filtered(void) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {4, code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		abort();
	ready();
	line();
	raw(SYS_memfd_create, (long)"x", 0, 0, 0, 0, 0); // it must kill
}

static void *watch(void *parent) { // no test, no target
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	while (getppid() == (long)parent)
		usleep(200000);
	_exit(1);
}

int main(int argc, char **argv) {
	const char *mode = argv[1];
	pthread_t t;
	if (pthread_create(&t, NULL, watch, (void *)(long)getppid()))
		abort();
	if (!strcmp(mode, "integrity"))
		integrity();
	else if (!strcmp(mode, "block"))
		block(argv[2], atof(argv[3]));
	else if (!strcmp(mode, "handler"))
		handler(strcmp(argv[2], "altstack") ? 0 : SA_ONSTACK, !strcmp(argv[2], "nested"));
	else if (!strcmp(mode, "many"))
		many(atoi(argv[2]));
	else if (!strcmp(mode, "churn"))
		churn();
	else if (!strcmp(mode, "leader"))
		leader();
	else if (!strcmp(mode, "vfork"))
		forks();
	else if (!strcmp(mode, "deep"))
		deep();
	else if (!strcmp(mode, "seccomp"))
		filtered();
	else
		abort();
	return 0;
}
`
