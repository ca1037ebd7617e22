/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Puppets: threads that ptrace makes execute system calls and code; the mechanism behind puppeteer.
 *
 * A puppet is one thread: a fresh idle process of our own ("spawn": an attacker), or a thread of a process that lives
 * its own life ("attach": QEMU). What an attached puppet must not notice:
 *
 * - Between requests its registers, signal mask and floating-point state are its own. Each request sets, runs and
 *   restores, so should we die, the kernel detaches and the puppet goes on where it was.
 * - It rests in the stop that PTRACE_INTERRUPT makes, which the kernel enters from get_signal(). On the way out of that,
 *   the kernel restarts an interrupted system call (rax is -ERESTART*, orig_rax the number), just as after a signal
 *   without a handler. A syscall-exit stop would hand -ERESTART* to the program, so PTRACE_SYSCALL is not used.
 * - While it works for us, every signal is blocked but those that a fault raises. So what others send it stays queued in
 *   the kernel, with all its details, until it is detached. A fault's signal must not be blocked: the kernel would
 *   reset the process's handler to the default (force_sig). Reported to us, it is dropped, the handler never runs.
 *   A signal of these numbers that somebody sent is held and sent again at detach (the sender's details are lost).
 *
 * What it can notice: one extra mapping while attached (the scratch); an injected system call that sleeps with a
 * timeout (nanosleep, poll, futex) replaces the kernel's restart block, so its own interrupted one ends with EINTR.
 * If we are killed by SIGKILL in the midst of a request (not between two), it is ended by the trap that we wait for.
 */
#ifndef PUPPET_H
#define PUPPET_H

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "line_server.h"
#include "signal_names.h"

/* The scratch mapping in a puppet, readable, writable and executable. */
#define GADGET_OFFSET 0x0000	/* what a system call is made with */
#define DATA_OFFSET 0x0800	/* arguments of our own system calls */
#define CODE_OFFSET 0x1000	/* code of "run" */
#define CODE_BYTES 0x4000
#define SCRATCH_BYTES 0x9000	/* the rest is the stack of "run" */

#define GRACE_MS 2000		/* how long an interrupted puppet may take to stop */

/*
 * The syscall instruction, and behind it a loop of pause(): there a child ends that an injected fork or clone made.
 *   syscall; 1: mov $34,%eax; syscall; jmp 1b
 */
static const unsigned char gadget[] = { 0x0f, 0x05, 0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };

struct puppet {
	struct puppet *next;
	int id;
	pid_t tid, tgid;
	int mem;			/* /proc/TID/mem */
	bool spawned;
	bool stuck;			/* runs in a system call that could not be interrupted so far */
	uint64_t syscall_at;		/* address of a syscall instruction */
	uint64_t scratch;		/* address, 0: none yet */
	struct user_regs_struct saved;
	uint64_t saved_mask;
	uint64_t held;			/* signals to send again at detach; bit n - 1 is signal n */
};

enum how { TRAPPED, SIGNALLED, GONE, EXECED, DEADLINE, STUCK, FAILED };

struct outcome {
	enum how how;
	siginfo_t info;			/* TRAPPED, SIGNALLED */
	int status;			/* GONE: of waitpid() */
	int err;			/* FAILED */
	struct user_regs_struct regs;	/* TRAPPED, SIGNALLED */
};

static struct puppet *puppets;
static int last_id;
static uint64_t timeout_ms = 5000;
static volatile sig_atomic_t stop;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t bit(int signo)
{
	return 1ull << (signo - 1);
}

/* Signals that a thread's own instruction raises: faults, traps, and seccomp's. */
static uint64_t fault_signals(void)
{
	return bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGFPE) | bit(SIGTRAP) | bit(SIGSYS);
}

/* Whether a reported signal was raised by what we made the puppet do, not sent by anybody. */
static bool is_own_fault(const siginfo_t *info)
{
	if (!(fault_signals() & bit(info->si_signo)) || info->si_code <= 0)
		return false;
	return !(info->si_signo == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

static void forget(struct puppet *p)
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

/*
 * Waits for a change of the puppet's state. 1: *status is set; 0: time is over, or we are to stop and the caller can
 * leave off here (`leave`); -1: errno.
 */
static int await(struct puppet *p, uint64_t until, bool leave, int *status)
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
			stop = 1;
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
			p->held |= bit(WSTOPSIG(status));
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
		p->held |= bit(WSTOPSIG(status));
	}
}

static bool is_stopped(enum how how)
{
	return how == TRAPPED || how == SIGNALLED || how == DEADLINE;
}

/* Sets registers, drives, and restores. The puppet is stopped before and after (unless gone or stuck). */
static struct outcome perform(struct puppet *p, struct user_regs_struct *regs, int request)
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

static struct outcome inject(struct puppet *p, uint64_t nr, const uint64_t args[6])
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

static bool is_error(const struct outcome *out, int *err)
{
	int64_t ret = (int64_t)out->regs.rax;

	*err = ret < 0 && ret >= -4095 ? (int)-ret : 0;
	return *err != 0;
}

/* Says in JSON how it ended when it neither trapped nor was signalled; forgets a puppet that is gone. */
static void reply_unfinished(struct puppet *p, const struct outcome *out, struct text *reply)
{
	switch (out->how) {
	case DEADLINE:
		reply_error(reply, stop ? "interrupted" : "deadline");
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

/* Whether the puppet is there, stopped and its own; says so in the reply when not. */
static bool settle(struct puppet *p, struct text *reply)
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
		if (p->held & bit(signo))
			syscall(SYS_tgkill, p->tgid, p->tid, signo);
	}
	p->held = 0;
}

/* Ends the puppet's service: unharmed if it was attached, dead if it is ours. The puppet is forgotten. */
static void release(struct puppet *p)
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

/* Seizes and stops a thread, and learns its state. On failure it is let go and the reply says why. */
static struct puppet *take(pid_t tid, bool spawned, struct text *reply)
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

#endif
