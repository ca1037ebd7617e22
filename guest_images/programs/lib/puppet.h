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

extern struct puppet *puppets;		/* all of them, the newest first */
extern uint64_t timeout_ms;		/* how long a request may take */
extern volatile sig_atomic_t stop_puppets;	/* end, and leave attached processes unharmed */

uint64_t now_ms(void);

uint64_t signal_bit(int signo);

void forget(struct puppet *p);

/*
 * Waits for a change of the puppet's state. 1: *status is set; 0: time is over, or we are to stop and the caller can
 * leave off here (`leave`); -1: errno.
 */
int await(struct puppet *p, uint64_t until, bool leave, int *status);

bool is_stopped(enum how how);

/* Sets registers, drives, and restores. The puppet is stopped before and after (unless gone or stuck). */
struct outcome perform(struct puppet *p, struct user_regs_struct *regs, int request);

struct outcome inject(struct puppet *p, uint64_t nr, const uint64_t args[6]);

bool is_error(const struct outcome *out, int *err);

/* Says in JSON how it ended when it neither trapped nor was signalled; forgets a puppet that is gone. */
void reply_unfinished(struct puppet *p, const struct outcome *out, struct text *reply);

/* Whether the puppet is there, stopped and its own; says so in the reply when not. */
bool settle(struct puppet *p, struct text *reply);

/* Ends the puppet's service: unharmed if it was attached, dead if it is ours. The puppet is forgotten. */
void release(struct puppet *p);

/* Seizes and stops a thread, and learns its state. On failure it is let go and the reply says why. */
struct puppet *take(pid_t tid, bool spawned, struct text *reply);

#endif
