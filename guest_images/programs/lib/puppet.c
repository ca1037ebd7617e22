// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "puppet.h"

/*
 * The syscall instruction, and behind it a loop of pause(): there a child ends that an injected fork or clone made.
 *   syscall; 1: mov $34,%eax; syscall; jmp 1b
 */
static const unsigned char gadget[] = { 0x0f, 0x05, 0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };

struct puppet *puppets;
uint64_t timeout_ms = 5000;
volatile sig_atomic_t stop_puppets;
static int last_id;

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t signal_bit(int signo)
{
	return 1ull << (signo - 1);
}

/* Signals that a thread's own instruction raises: faults, traps, and seccomp's. */
static uint64_t fault_signals(void)
{
	return signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) | signal_bit(SIGFPE) | signal_bit(SIGTRAP) | signal_bit(SIGSYS);
}

/* Whether a reported signal was raised by what we made the puppet do, not sent by anybody. */
static bool is_own_fault(const siginfo_t *info)
{
	if (!(fault_signals() & signal_bit(info->si_signo)) || info->si_code <= 0)
		return false;
	return !(info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

void forget(struct puppet *p)
{
	for (struct puppet **at = &puppets; *at; at = &(*at)->next) {
		if (*at == p) {
			*at = p->next;
			break;
		}
	}
	if (p->mem >= 0)
		close(p->mem);
	free(p);
}

int await(struct puppet *p, uint64_t until, bool leave, int *status)
{
	sigset_t wake;

	/* SIGCHLD is blocked: one that comes between waitpid() and sigtimedwait() is kept for the latter. */
	sigemptyset(&wake);
	sigaddset(&wake, SIGCHLD);
	if (leave) {
		sigaddset(&wake, SIGTERM);
		sigaddset(&wake, SIGHUP);
		sigaddset(&wake, SIGINT);
	}
	for (;;) {
		pid_t got = waitpid(p->tid, status, __WALL | WNOHANG);

		if (got == p->tid)
			return 1;
		if (got < 0 && errno != EINTR)
			return -1;
		uint64_t now = now_ms();

		if (now >= until)
			return 0;
		struct timespec left = { (time_t)((until - now) / 1000), (long)((until - now) % 1000) * 1000000 };
		int signo = sigtimedwait(&wake, NULL, &left);

		if (signo == SIGTERM || signo == SIGHUP || signo == SIGINT) {
			stop_puppets = 1;
			return 0;
		}
	}
}

static bool is_restart(uint64_t raw)
{
	/* ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK: linux/errno.h, never seen by programs. */
	int64_t ret = (int64_t)raw;

	return ret == -512 || ret == -513 || ret == -514 || ret == -516;
}

/* Whether a fault's signal waits in the stopped puppet's own queue. */
static bool has_fault_queued(struct puppet *p)
{
	siginfo_t queue[64];
	struct __ptrace_peeksiginfo_args from = { .nr = 64 };
	long n = ptrace(PTRACE_PEEKSIGINFO, p->tid, &from, queue);

	for (long i = 0; i < n; i++) {
		if (is_own_fault(&queue[i]))
			return true;
	}
	return false;
}

/*
 * An interrupt can overtake the trap of the same moment: the kernel reports the interrupt first and keeps the trap's
 * signal. Left there it would end the next request early, or kill the puppet when it is detached. The kernel reports it
 * before a single instruction runs.
 */
static void drain_faults(struct puppet *p)
{
	int status;

	while (has_fault_queued(p)) {
		if (ptrace(PTRACE_CONT, p->tid, 0, 0) || await(p, now_ms() + GRACE_MS, false, &status) <= 0 ||
		    !WIFSTOPPED(status))
			return;
	}
}

/*
 * Lets the puppet go by PTRACE_SINGLESTEP (one instruction: the syscall) or PTRACE_CONT (until int3), and waits for the
 * end of that. Stops that are none of ours (group stops, sent signals) are passed over.
 */
static struct outcome drive(struct puppet *p, int request)
{
	struct outcome out = { .how = FAILED };
	bool interrupted = false;
	uint64_t until = now_ms() + timeout_ms;

	for (;;) {
		if (ptrace(request, p->tid, 0, 0)) {
			out.err = errno;
			int status;

			if (out.err == ESRCH && await(p, now_ms() + GRACE_MS, false, &status) > 0 && !WIFSTOPPED(status)) {
				out.how = GONE;
				out.status = status;
			}
			return out;
		}
		int status, got;

		while (!(got = await(p, until, !interrupted, &status))) {
			if (interrupted) {
				p->stuck = true;
				out.how = STUCK;
				return out;
			}
			interrupted = true;
			until = now_ms() + GRACE_MS;
			ptrace(PTRACE_INTERRUPT, p->tid, 0, 0);
		}
		if (got < 0) {
			out.err = errno;
			return out;
		}
		if (!WIFSTOPPED(status)) {
			out.how = GONE;
			out.status = status;
			return out;
		}
		if (status >> 16 == PTRACE_EVENT_EXEC) {
			out.how = EXECED;
			return out;
		}
		if (status >> 16 == PTRACE_EVENT_STOP) {
			if (!interrupted)
				continue;	/* a group stop, or an interrupt of an earlier request that came late */
			drain_faults(p);
			out.how = DEADLINE;
			return out;
		}
		if (ptrace(PTRACE_GETSIGINFO, p->tid, 0, &out.info) ||
		    ptrace(PTRACE_GETREGS, p->tid, 0, &out.regs)) {
			out.err = errno;
			return out;
		}
		if (!is_own_fault(&out.info)) {
			p->held |= signal_bit(WSTOPSIG(status));
			continue;
		}
		out.how = out.info.si_signo == SIGTRAP ? TRAPPED : SIGNALLED;
		if (request == PTRACE_SINGLESTEP && out.how == TRAPPED) {
			if (interrupted && (is_restart(out.regs.rax) || out.regs.rax == (uint64_t)-EINTR))
				out.how = DEADLINE;
			else if (is_restart(out.regs.rax))
				continue;	/* the kernel restarts the call */
		}
		return out;
	}
}

static bool set_mask(struct puppet *p, uint64_t mask)
{
	return !ptrace(PTRACE_SETSIGMASK, p->tid, sizeof(mask), &mask);
}

/*
 * Gives the stopped puppet its own state back and lets it rest in a stop that is no signal's: should we die now, nothing
 * is delivered to it. PTRACE_CONT ends the single-stepping, which the kernel itself would not end when we die, and
 * reaches the stop that PTRACE_INTERRUPT asks for before an instruction runs.
 */
static bool restore(struct puppet *p)
{
	int status;

	if (ptrace(PTRACE_SETREGS, p->tid, 0, &p->saved) || !set_mask(p, p->saved_mask))
		return false;
	for (;;) {
		if (ptrace(PTRACE_INTERRUPT, p->tid, 0, 0) || ptrace(PTRACE_CONT, p->tid, 0, 0))
			return false;
		if (await(p, now_ms() + GRACE_MS, false, &status) <= 0 || !WIFSTOPPED(status)) {
			errno = ESRCH;
			return false;
		}
		if (status >> 16 == PTRACE_EVENT_STOP)
			return true;
		p->held |= signal_bit(WSTOPSIG(status));
	}
}

bool is_stopped(enum how how)
{
	return how == TRAPPED || how == SIGNALLED || how == DEADLINE;
}

struct outcome perform(struct puppet *p, struct user_regs_struct *regs, int request)
{
	struct outcome out = { .how = FAILED };

	regs->orig_rax = (unsigned long long)-1;	/* not in a system call: nothing to restart */
	if (!set_mask(p, ~fault_signals()) || ptrace(PTRACE_SETREGS, p->tid, 0, regs)) {
		out.err = errno;
		restore(p);
		return out;
	}
	out = drive(p, request);
	if (is_stopped(out.how) && !restore(p)) {
		out.err = errno;
		out.how = FAILED;
	}
	return out;
}

struct outcome inject(struct puppet *p, uint64_t nr, const uint64_t args[6])
{
	struct user_regs_struct regs = p->saved;

	regs.rip = p->syscall_at;
	regs.rax = nr;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	return perform(p, &regs, PTRACE_SINGLESTEP);
}

bool is_error(const struct outcome *out, int *err)
{
	int64_t ret = (int64_t)out->regs.rax;

	*err = ret < 0 && ret >= -4095 ? (int)-ret : 0;
	return *err != 0;
}

void reply_unfinished(struct puppet *p, const struct outcome *out, struct text *reply)
{
	switch (out->how) {
	case DEADLINE:
		reply_error(reply, stop_puppets ? "interrupted" : "deadline");
		break;
	case STUCK:
		reply_error(reply, "stuck");
		break;
	case EXECED:
		text_add(reply, "{\"gone\":true,\"exec\":true}");
		if (p->spawned)
			kill(p->tid, SIGKILL);
		else
			ptrace(PTRACE_DETACH, p->tid, 0, 0);
		forget(p);
		break;
	case GONE:
		if (WIFEXITED(out->status)) {
			text_add(reply, "{\"gone\":true,\"exited\":%d}", WEXITSTATUS(out->status));
		} else {
			text_add(reply, "{\"gone\":true,\"killed\":");
			add_signal_name(reply, WTERMSIG(out->status));
			text_add(reply, "}");
		}
		forget(p);
		break;
	default:
		reply_errno(reply, "ptrace", out->err);
	}
}

bool settle(struct puppet *p, struct text *reply)
{
	struct outcome out = { .how = STUCK };
	int got = await(p, p->stuck ? now_ms() + GRACE_MS : 0, false, &out.status);

	if (got < 0) {
		out.how = FAILED;
		out.err = errno;
	} else if (got > 0 && !WIFSTOPPED(out.status)) {
		out.how = GONE;
	} else if (got > 0 && out.status >> 16 == PTRACE_EVENT_EXEC) {
		out.how = EXECED;
	} else if (got == 0 && !p->stuck) {
		return true;
	} else if (got > 0) {
		p->stuck = false;
		drain_faults(p);
		if (restore(p))
			return true;
		out.how = FAILED;
		out.err = errno;
	}
	reply_unfinished(p, &out, reply);
	return false;
}

/* Looks for 0f 05 in the executable mappings, the vdso first. */
static bool find_syscall(struct puppet *p)
{
	char path[64], line[512];

	snprintf(path, sizeof(path), "/proc/%d/maps", p->tid);
	for (int pass = 0; pass < 2; pass++) {
		FILE *maps = fopen(path, "re");

		if (!maps)
			return false;
		while (fgets(line, sizeof(line), maps)) {
			unsigned long start, end;
			char perms[5];
			unsigned char bytes[4096];

			if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) != 3 || perms[2] != 'x')
				continue;
			if ((strstr(line, "[vdso]") == NULL) != (pass == 1))
				continue;
			for (unsigned long at = start; at < end; at += sizeof(bytes)) {
				ssize_t n = pread(p->mem, bytes, sizeof(bytes), (off_t)at);
				unsigned char *hit = n > 0 ? memmem(bytes, (size_t)n, "\x0f\x05", 2) : NULL;

				if (hit) {
					p->syscall_at = at + (uint64_t)(hit - bytes);
					fclose(maps);
					return true;
				}
			}
		}
		fclose(maps);
	}
	errno = ENOEXEC;
	return false;
}

/* Maps the scratch and puts the gadget there. */
static bool make_scratch(struct puppet *p, struct text *reply)
{
	const uint64_t args[6] = { 0, SCRATCH_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0 };
	struct outcome out = inject(p, SYS_mmap, args);
	int err;

	if (out.how != TRAPPED) {
		reply_unfinished(p, &out, reply);
		return false;
	}
	if (is_error(&out, &err)) {
		reply_errno(reply, "mmap of the scratch", err);
		return false;
	}
	uint64_t at = out.regs.rax;

	if (pwrite(p->mem, gadget, sizeof(gadget), (off_t)(at + GADGET_OFFSET)) != (ssize_t)sizeof(gadget)) {
		reply_errno(reply, "write to the scratch", errno);
		return false;
	}
	p->scratch = at;
	p->syscall_at = at + GADGET_OFFSET;
	return true;
}

static void send_again(struct puppet *p)
{
	for (int signo = 1; signo <= 64; signo++) {
		if (p->held & signal_bit(signo))
			syscall(SYS_tgkill, p->tgid, p->tid, signo);
	}
	p->held = 0;
}

void release(struct puppet *p)
{
	int status;

	if (p->spawned) {
		kill(p->tid, SIGKILL);
		await(p, now_ms() + GRACE_MS, false, &status);
		forget(p);
		return;
	}
	if (p->scratch && find_syscall(p)) {
		const uint64_t args[6] = { p->scratch, SCRATCH_BYTES };

		inject(p, SYS_munmap, args);
	}
	send_again(p);
	ptrace(PTRACE_DETACH, p->tid, 0, 0);
	forget(p);
}

struct puppet *take(pid_t tid, bool spawned, struct text *reply)
{
	long options = PTRACE_O_TRACEEXEC | (spawned ? PTRACE_O_EXITKILL : 0);
	struct puppet *p = calloc(1, sizeof(*p));
	char path[64], line[256];
	int status = 0;
	FILE *file;

	if (!p) {
		reply_errno(reply, "memory", ENOMEM);
		return NULL;
	}
	*p = (struct puppet){ .tid = tid, .tgid = tid, .spawned = spawned, .mem = -1 };
	if (ptrace(PTRACE_SEIZE, tid, 0, options)) {
		reply_errno(reply, "PTRACE_SEIZE", errno);
		free(p);
		return NULL;
	}
	p->next = puppets;
	puppets = p;
	p->id = ++last_id;
	ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	for (;;) {
		int got = await(p, now_ms() + timeout_ms, false, &status);

		if (got > 0 && WIFSTOPPED(status) && status >> 16 != PTRACE_EVENT_STOP) {
			/*
			 * A signal was on its way, or the thread comes from execve(): let it take its course. That stop
			 * took our interrupt with it (kernel/signal.c ptrace_stop(): any trap clears it).
			 */
			ptrace(PTRACE_CONT, tid, 0, status >> 16 ? 0 : WSTOPSIG(status));
			ptrace(PTRACE_INTERRUPT, tid, 0, 0);
			continue;
		}
		if (got > 0 && WIFSTOPPED(status))
			break;
		if (got > 0) {
			reply_unfinished(p, &(struct outcome){ .how = GONE, .status = status }, reply);
			return NULL;
		}
		reply_error(reply, "the thread cannot be stopped: it sleeps in the kernel");
		/* It cannot be detached before it stops; when we end, the kernel does that. */
		forget(p);
		return NULL;
	}
	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "Tgid: %d", &p->tgid);
	if (file)
		fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/mem", tid);
	p->mem = open(path, O_RDWR | O_CLOEXEC);
	if (p->mem < 0 || ptrace(PTRACE_GETREGS, tid, 0, &p->saved) ||
	    ptrace(PTRACE_GETSIGMASK, tid, sizeof(p->saved_mask), &p->saved_mask) || !find_syscall(p)) {
		reply_errno(reply, "cannot learn the thread's state", errno);
		ptrace(PTRACE_DETACH, tid, 0, 0);
		forget(p);
		return NULL;
	}
	int id = p->id;

	if (make_scratch(p, reply))
		return p;
	if (puppets && puppets->id == id)	/* not gone in the meantime */
		release(p);
	return NULL;
}
