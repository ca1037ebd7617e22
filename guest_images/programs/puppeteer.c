// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * puppeteer - makes threads of other processes execute system calls and machine code, by ptrace.
 *
 * usage: puppeteer          requests on stdin, one JSON reply a line on stdout; README.md lists them.
 *
 * A puppet is a fresh idle process of our own ("spawn": an attacker) or a thread of a process that lives its own life
 * ("attach": QEMU). At the end of input, or by SIGTERM, SIGHUP or SIGINT, the former are killed and the latter go on
 * unharmed; puppet.h says how.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <linux/close_range.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "lib/puppet.h"

#define MAX_PEEK (4u << 20)
#define XSTATE_BYTES 16384	/* AMX brings it to about 11 KiB */

static void on_stop_signal(int signo)
{
	(void)signo;
	stop_puppets = 1;
}

static struct puppet *find(const char *word)
{
	uint64_t id;

	if (!parse_number(word, &id))
		return NULL;
	for (struct puppet *p = puppets; p; p = p->next) {
		if ((uint64_t)p->id == id)
			return p;
	}
	return NULL;
}

static struct puppet *puppet_of(const char *word, struct text *reply)
{
	struct puppet *p = find(word);

	if (!p) {
		reply_error(reply, "no such puppet");
		return NULL;
	}
	return settle(p, reply) ? p : NULL;
}

static void do_spawn(int argc, char **args, struct text *reply)
{
	int ready[2];
	pid_t parent = getpid();
	char none;

	(void)argc, (void)args;
	if (pipe2(ready, O_CLOEXEC)) {
		reply_errno(reply, "pipe", errno);
		return;
	}
	pid_t pid = fork();

	if (pid == 0) {
		sigset_t empty;

		sigemptyset(&empty);
		sigprocmask(SIG_SETMASK, &empty, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
		int null = open("/dev/null", O_RDWR);

		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			_exit(1);
		close(null);
		/* A fresh image: no copy of what this process has read or been told. */
		execl("/proc/self/exe", "puppeteer", "--idle", (char *)NULL);
		_exit(1);
	}
	close(ready[1]);
	if (pid < 0) {
		reply_errno(reply, "fork", errno);
		close(ready[0]);
		return;
	}
	/* End of file comes when exec closes the child's end. */
	while (read(ready[0], &none, 1) < 0 && errno == EINTR)
		continue;
	close(ready[0]);
	struct puppet *p = take(pid, true, reply);

	if (p) {
		text_add(reply, "{\"puppet\":%d,\"pid\":%d,\"kind\":\"spawned\"}", p->id, pid);
	} else {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, __WALL | WNOHANG);
	}
}

static void do_attach(int argc, char **args, struct text *reply)
{
	uint64_t tid;

	(void)argc;
	if (!parse_number(args[0], &tid) || tid == 0 || tid > INT32_MAX) {
		reply_error(reply, "usage: attach TID");
		return;
	}
	struct puppet *p = take((pid_t)tid, false, reply);

	if (p)
		text_add(reply, "{\"puppet\":%d,\"pid\":%d,\"kind\":\"attached\"}", p->id, p->tid);
}

static void do_detach(int argc, char **args, struct text *reply)
{
	struct puppet *p = find(args[0]);

	(void)argc;
	if (p && p->spawned) {
		text_add(reply, "{\"killed\":%d}", p->id);
		release(p);
		return;
	}
	p = puppet_of(args[0], reply);
	if (!p)
		return;
	text_add(reply, "{\"detached\":%d}", p->id);
	release(p);
}

static void add_signal_facts(const siginfo_t *info, struct text *reply)
{
	text_add(reply, "\"signal\":");
	add_signal_name(reply, info->si_signo);
	text_add(reply, ",\"si_code\":");
	add_code_name(reply, info->si_signo, info->si_code);
	text_add(reply, ",\"si_addr\":%lu", (unsigned long)info->si_addr);
}

/* Takes a signal that the call raised in its own thread out of the queue, as the thread's handler must not see it. */
static bool swallow(struct puppet *p, int signo)
{
	struct {
		uint64_t set;
		struct timespec none;
	} data = { .set = signal_bit(signo) };
	const uint64_t at = p->scratch + DATA_OFFSET;
	const uint64_t args[6] = { at, 0, at + 8, sizeof(data.set) };

	if (pwrite(p->mem, &data, sizeof(data), (off_t)at) != (ssize_t)sizeof(data))
		return false;
	struct outcome out = inject(p, SYS_rt_sigtimedwait, args);

	return out.how == TRAPPED && out.regs.rax == (uint64_t)signo;
}

static void do_syscall(int argc, char **args, struct text *reply)
{
	uint64_t nr, values[6] = { 0 };
	struct puppet *p = puppet_of(args[0], reply);
	int err;

	if (!p)
		return;
	bool good = parse_number(args[1], &nr);

	for (int i = 2; i < argc && good; i++)
		good = parse_number(args[i], &values[i - 2]);
	if (!good) {
		reply_error(reply, "usage: syscall ID NR [A0 .. A5]");
		return;
	}
	struct outcome out = inject(p, nr, values);

	if (out.how == SIGNALLED) {
		text_add(reply, "{");
		add_signal_facts(&out.info, reply);
		text_add(reply, "}");
	} else if (out.how != TRAPPED) {
		reply_unfinished(p, &out, reply);
	} else if (!is_error(&out, &err)) {
		text_add(reply, "{\"ret\":%ld,\"errno\":null,\"errno_nr\":0}", (long)out.regs.rax);
	} else {
		/* Writing to a pipe without a reader, or beyond the file size limit, also signals the writer. */
		int raised = err == EPIPE ? SIGPIPE : err == EFBIG ? SIGXFSZ : 0;

		text_add(reply, "{\"ret\":-1,");
		text_add_errno(reply, err);
		if (raised && swallow(p, raised)) {
			text_add(reply, ",\"swallowed\":");
			add_signal_name(reply, raised);
		}
		text_add(reply, "}");
	}
}

#define REGISTER(name) { #name, offsetof(struct user_regs_struct, name) }
static const struct {
	const char *name;
	size_t offset;
} registers[] = {
	REGISTER(rax), REGISTER(rbx), REGISTER(rcx), REGISTER(rdx), REGISTER(rsi), REGISTER(rdi),
	REGISTER(rbp), REGISTER(rsp), REGISTER(r8), REGISTER(r9), REGISTER(r10), REGISTER(r11),
	REGISTER(r12), REGISTER(r13), REGISTER(r14), REGISTER(r15), REGISTER(rip), REGISTER(eflags),
};
#define GENERAL_REGISTERS 16
#define SHOWN_REGISTERS (sizeof(registers) / sizeof(registers[0]))

static unsigned long long *register_at(struct user_regs_struct *regs, size_t i)
{
	return (unsigned long long *)((char *)regs + registers[i].offset);
}

static void add_registers(struct user_regs_struct *regs, struct text *reply)
{
	for (size_t i = 0; i < SHOWN_REGISTERS; i++)
		text_add(reply, "%s\"%s\":%llu", i ? "," : "", registers[i].name, *register_at(regs, i));
}

/* Reads NAME=NUMBER, the name in either case, into the registers. */
static bool parse_register(char *word, struct user_regs_struct *regs)
{
	char *value = strchr(word, '=');
	uint64_t number;

	if (!value)
		return false;
	*value++ = 0;
	for (size_t i = 0; i < GENERAL_REGISTERS; i++) {
		if (!strcasecmp(word, registers[i].name) && parse_number(value, &number)) {
			*register_at(regs, i) = number;
			return true;
		}
	}
	return false;
}

static void do_run(int argc, char **args, struct text *reply)
{
	static unsigned char before[XSTATE_BYTES], after[XSTATE_BYTES];
	struct iovec own = { before, sizeof(before) }, then = { after, sizeof(after) };
	struct puppet *p = puppet_of(args[0], reply);
	const unsigned char trap = 0xcc;
	unsigned char *code;
	size_t len;

	if (!p)
		return;
	const uint64_t at = p->scratch + CODE_OFFSET;
	struct user_regs_struct regs = p->saved;	/* keeps segments, fs_base and gs_base */

	for (size_t i = 0; i < GENERAL_REGISTERS; i++)
		*register_at(&regs, i) = 0;
	regs.rsp = p->scratch + SCRATCH_BYTES - 256;
	regs.rip = at;
	regs.eflags = 0x202;
	bool good = parse_hex(args[1], &code, &len) && len < CODE_BYTES;

	for (int i = 2; i < argc && good; i++)
		good = parse_register(args[i], &regs);
	if (!good) {
		reply_error(reply, "usage: run ID CODEHEX [REGISTER=NUMBER ..]; code of less than 16384 bytes");
		return;
	}
	if (pwrite(p->mem, code, len, (off_t)at) != (ssize_t)len ||
	    pwrite(p->mem, &trap, 1, (off_t)(at + len)) != 1) {
		reply_errno(reply, "write to the scratch", errno);
		return;
	}
	if (ptrace(PTRACE_GETREGSET, p->tid, NT_X86_XSTATE, &own)) {
		reply_errno(reply, "PTRACE_GETREGSET", errno);
		return;
	}
	struct outcome out = perform(p, &regs, PTRACE_CONT);

	if (is_stopped(out.how) && (ptrace(PTRACE_GETREGSET, p->tid, NT_X86_XSTATE, &then) ||
				    ptrace(PTRACE_SETREGSET, p->tid, NT_X86_XSTATE, &own))) {
		reply_errno(reply, "PTRACE_SETREGSET", errno);
		return;
	}
	if (out.how != TRAPPED && out.how != SIGNALLED) {
		reply_unfinished(p, &out, reply);
		return;
	}
	/* An int3, or another trap, of the code itself is a signal as any other. */
	if (out.how == TRAPPED && out.regs.rip == at + len + 1) {
		text_add(reply, "{\"trap\":true,");
	} else {
		text_add(reply, "{\"trap\":false,");
		add_signal_facts(&out.info, reply);
		text_add(reply, ",");
	}
	text_add(reply, "\"code\":%lu,", (unsigned long)at);
	add_registers(&out.regs, reply);
	text_add(reply, ",\"xmm0\":\"");
	text_add_hex(reply, after + offsetof(struct user_fpregs_struct, xmm_space), 16);
	text_add(reply, "\"}");
}

static void do_map(int argc, char **args, struct text *reply)
{
	uint64_t values[6] = { 0, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0 };
	struct puppet *p = puppet_of(args[0], reply);
	int err;

	if (!p)
		return;
	if (!parse_number(args[1], &values[1]) || (argc > 2 && !parse_number(args[2], &values[2]))) {
		reply_error(reply, "usage: map ID LEN [PROT]");
		return;
	}
	struct outcome out = inject(p, SYS_mmap, values);

	if (out.how != TRAPPED)
		reply_unfinished(p, &out, reply);
	else if (is_error(&out, &err))
		reply_errno(reply, "mmap", err);
	else
		text_add(reply, "{\"addr\":%llu}", out.regs.rax);
}

static void do_unmap(int argc, char **args, struct text *reply)
{
	uint64_t values[6] = { 0 };
	struct puppet *p = puppet_of(args[0], reply);
	int err;

	(void)argc;
	if (!p)
		return;
	if (!parse_number(args[1], &values[0]) || !parse_number(args[2], &values[1])) {
		reply_error(reply, "usage: unmap ID ADDR LEN");
		return;
	}
	struct outcome out = inject(p, SYS_munmap, values);

	if (out.how != TRAPPED)
		reply_unfinished(p, &out, reply);
	else if (is_error(&out, &err))
		reply_errno(reply, "munmap", err);
	else
		text_add(reply, "{\"unmapped\":true}");
}

/* Moves bytes through /proc/TID/mem; returns how many, and the errno that ended it early. */
static size_t move(struct puppet *p, bool to_puppet, unsigned char *bytes, size_t len, uint64_t addr, int *err)
{
	size_t done = 0;

	*err = 0;
	while (done < len) {
		off_t at = (off_t)(addr + done);
		ssize_t n = to_puppet ? pwrite(p->mem, bytes + done, len - done, at)
				      : pread(p->mem, bytes + done, len - done, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*err = n < 0 ? errno : EIO;
			break;
		}
		done += (size_t)n;
	}
	return done;
}

static void do_poke(int argc, char **args, struct text *reply)
{
	struct puppet *p = puppet_of(args[0], reply);
	unsigned char *bytes;
	uint64_t addr;
	size_t len;
	int err;

	(void)argc;
	if (!p)
		return;
	if (!parse_number(args[1], &addr) || !parse_hex(args[2], &bytes, &len)) {
		reply_error(reply, "usage: poke ID ADDR HEX");
		return;
	}
	size_t done = move(p, true, bytes, len, addr, &err);

	if (!done) {
		reply_errno(reply, "poke", err);
		return;
	}
	text_add(reply, "{\"written\":%zu", done);
	if (err) {
		text_add(reply, ",");
		text_add_errno(reply, err);
	}
	text_add(reply, "}");
}

static void do_peek(int argc, char **args, struct text *reply)
{
	struct puppet *p = puppet_of(args[0], reply);
	uint64_t addr, len;
	int err;

	(void)argc;
	if (!p)
		return;
	if (!parse_number(args[1], &addr) || !parse_number(args[2], &len) || !len || len > MAX_PEEK) {
		reply_error(reply, "usage: peek ID ADDR LEN; LEN up to 4194304");
		return;
	}
	unsigned char *bytes = malloc(len);

	if (!bytes) {
		reply_errno(reply, "memory", ENOMEM);
		return;
	}
	size_t done = move(p, false, bytes, len, addr, &err);

	if (!done) {
		reply_errno(reply, "peek", err);
	} else {
		text_add(reply, "{\"hex\":\"");
		text_add_hex(reply, bytes, done);
		text_add(reply, "\"");
		if (err) {
			text_add(reply, ",");
			text_add_errno(reply, err);
		}
		text_add(reply, "}");
	}
	free(bytes);
}

static void do_regs(int argc, char **args, struct text *reply)
{
	struct puppet *p = puppet_of(args[0], reply);

	(void)argc;
	if (!p)
		return;
	text_add(reply, "{");
	add_registers(&p->saved, reply);
	text_add(reply, ",\"orig_rax\":%llu,\"fs_base\":%llu,\"gs_base\":%llu}", p->saved.orig_rax, p->saved.fs_base,
		 p->saved.gs_base);
}

static void do_timeout(int argc, char **args, struct text *reply)
{
	uint64_t ms;

	(void)argc;
	if (!parse_number(args[0], &ms) || !ms || ms > 86400000) {
		reply_error(reply, "usage: timeout MS");
		return;
	}
	timeout_ms = ms;
	text_add(reply, "{\"timeout\":%lu}", (unsigned long)ms);
}

static const struct command commands[] = {
	{ "spawn", 0, 0, "usage: spawn", do_spawn },
	{ "attach", 1, 1, "usage: attach TID", do_attach },
	{ "detach", 1, 1, "usage: detach ID", do_detach },
	{ "syscall", 2, 8, "usage: syscall ID NR [A0 .. A5]", do_syscall },
	{ "run", 2, 18, "usage: run ID CODEHEX [REGISTER=NUMBER ..]", do_run },
	{ "map", 2, 3, "usage: map ID LEN [PROT]", do_map },
	{ "unmap", 3, 3, "usage: unmap ID ADDR LEN", do_unmap },
	{ "poke", 3, 3, "usage: poke ID ADDR HEX", do_poke },
	{ "peek", 3, 3, "usage: peek ID ADDR LEN", do_peek },
	{ "regs", 1, 1, "usage: regs ID", do_regs },
	{ "timeout", 1, 1, "usage: timeout MS", do_timeout },
	{ 0 },
};

int main(int argc, char **argv)
{
	sigset_t blocked, before;
	struct sigaction action = { .sa_handler = on_stop_signal };

	if (argc == 2 && !strcmp(argv[1], "--idle")) {
		for (;;)
			pause();
	}
	if (argc != 1) {
		fprintf(stderr, "usage: puppeteer\n");
		return 2;
	}
	/* The stop signals interrupt only the two places that wait: serve_lines() and await(). */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGHUP);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, &before);
	signal(SIGCHLD, SIG_DFL);	/* if ignored, children would be reaped behind our back */
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaddset(&before, SIGCHLD);
	sigdelset(&before, SIGTERM);
	sigdelset(&before, SIGHUP);
	sigdelset(&before, SIGINT);
	serve_lines(commands, &stop_puppets, &before);
	/* From here on a stop signal changes nothing: each puppet gets its release. */
	while (puppets) {
		struct text unsaid = { 0 };

		if (puppets->spawned || settle(puppets, &unsaid))
			release(puppets);
		else if (puppets)
			forget(puppets);
		free(unsaid.data);
	}
	return 0;
}
