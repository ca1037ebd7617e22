// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_code - instructions that KVM fetches from the guest's code, or writes there.
 *
 * usage: check_code hypercall|skip
 *
 * "hypercall": vmcall is Intel's; on AMD KVM would put vmmcall in its place, in the guest's code, but for ring 3: there
 * it is #GP, and the code stays as it is.
 * "skip": a processor without next-RIP saving does not tell how long an instruction is that KVM has carried out, here
 * cpuid and vmmcall: KVM reads it, to go on behind it.
 *
 * Each in a page and across two; the pages are private, and then shared with the host (module guest_canary).
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "lib/one_instruction.h"

#define PAGE SEALPROOF_PAGE_BYTES
#define KVM_EPERM 1	/* linux/kvm_para.h */

static const unsigned char vmcall[] = { 0x0f, 0x01, 0xc1 }, vmmcall[] = { 0x0f, 0x01, 0xd9 }, cpuid[] = { 0x0f, 0xa2 };

static unsigned char *code;	/* two pages */
static struct machine template;

static void share_code(void)
{
	int fd = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cannot("open /dev/" SEALPROOF_CANARY_NAME);
	for (unsigned int i = 0; i < 2; i++) {
		struct sealproof_canary request = { .slot = i, .buffer = (uintptr_t)code + i * PAGE };

		if (ioctl(fd, SEALPROOF_CANARY_SHARE, &request))
			cannot("share a page");
	}
}

static void report(const char *what, const char *where, const char *pages, const char *expected, const char *got)
{
	struct text t = { 0 };
	char name[128];

	snprintf(name, sizeof(name), "%s, %s, %s", what, where, pages);
	begin_check(&t, name);
	text_add(&t, ",\"expected\":\"%s\",\"got\":\"%s\"}", expected, got);
	print_line(&t);
	free(t.data);
}

/* Runs an instruction at an offset in the code, with these in rax and rcx. */
static struct ending run_at(size_t offset, const unsigned char *instruction, size_t len, uint64_t rax, uint64_t rcx)
{
	struct machine machine = template;
	struct ending ending;

	memset(code, BREAKPOINT, 2 * PAGE);
	memcpy(code + offset, instruction, len);
	machine.regs[REG_RIP] = (greg_t)(uintptr_t)(code + offset);
	machine.regs[REG_RAX] = (greg_t)rax;
	machine.regs[REG_RCX] = (greg_t)rcx;
	run_one(&machine, &ending);
	return ending;
}

static void describe(char *out, size_t room, size_t offset, const struct ending *ending)
{
	const unsigned char *at = code + offset;
	const greg_t *regs = ending->machine.regs;
	int len = snprintf(out, room, "code %02x%02x%02x, rip%+lld", at[0], at[1], at[2],
			   (long long)(regs[REG_RIP] - (greg_t)(uintptr_t)at));

	if (ending->signal == SIGTRAP)
		snprintf(out + len, room - (size_t)len, ", rax %llx", (unsigned long long)regs[REG_RAX]);
	else
		snprintf(out + len, room - (size_t)len, ", SIG%s, trap %lld, error %lld", sigabbrev_np(ending->signal),
			 (long long)regs[REG_TRAPNO], (long long)regs[REG_ERR]);
}

static void check_hypercall(size_t offset, const char *where, const char *pages)
{
	struct ending ending = run_at(offset, vmcall, sizeof(vmcall), 0, 0);
	char got[128];

	describe(got, sizeof(got), offset, &ending);
	report("vmcall", where, pages, "code 0f01c1, rip+0, SIGSEGV, trap 13, error 0", got);
}

static void check_skip(size_t offset, const char *where, const char *pages)
{
	struct ending ending = run_at(offset, vmmcall, sizeof(vmmcall), 0, 0);
	char expected[128], got[128];
	unsigned int a, b, c, d;

	describe(got, sizeof(got), offset, &ending);
	snprintf(expected, sizeof(expected), "code 0f01d9, rip+4, rax %lx", -(uint64_t)KVM_EPERM);
	report("vmmcall", where, pages, expected, got);
	for (unsigned int leaf = 0; leaf < 2; leaf++) {
		const greg_t *regs = ending.machine.regs;

		ending = run_at(offset, cpuid, sizeof(cpuid), leaf ? 0x40000000 : 0, 0);
		__cpuid_count(leaf ? 0x40000000 : 0, 0, a, b, c, d);
		snprintf(expected, sizeof(expected), "rip+3 %x %x %x %x", a, b, c, d);
		snprintf(got, sizeof(got), "rip%+lld %llx %llx %llx %llx",
			 (long long)(regs[REG_RIP] - (greg_t)(uintptr_t)(code + offset)), (unsigned long long)regs[REG_RAX],
			 (unsigned long long)regs[REG_RBX], (unsigned long long)regs[REG_RCX],
			 (unsigned long long)regs[REG_RDX]);
		report(leaf ? "cpuid 0x40000000" : "cpuid 0", where, pages, expected, got);
	}
}

int main(int argc, char **argv)
{
	bool hypercall = argc == 2 && !strcmp(argv[1], "hypercall");

	if (argc != 2 || (!hypercall && strcmp(argv[1], "skip"))) {
		fprintf(stderr, "usage: check_code hypercall|skip\n");
		return 2;
	}
	code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (code == MAP_FAILED)
		cannot("map pages for code");
	template = prepare_to_run();
	for (int shared = 0; shared < 2; shared++) {
		const char *pages = shared ? "on shared pages" : "on private pages";

		if (shared)
			share_code();
		for (size_t before = 0; before < 3; before++)
			(hypercall ? check_hypercall : check_skip)(
				PAGE - before, before == 2 ? "2 bytes in another page" : before ? "1 byte in another page" : "in a page", pages);
	}
	return 0;
}
