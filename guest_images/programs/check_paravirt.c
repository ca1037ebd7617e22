// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_paravirt - where KVM's paravirtual interfaces write, on a page that the guest has shared and on one that not
 *
 * usage: check_paravirt features|system-time|steal-time, or wall-clock SECONDS: the time of day, as the host has it. The
 *	guest's own falls behind by as long as QEMU has stopped the guest. On the processor that it is started on.
 *
 * KVM is told by an MSR to put its data into a page; the MSR gets its own value back afterwards. What KVM writes once,
 * at the guest's request (the wall clock), it writes by its helpers for guest memory, which reach private pages. What it
 * keeps up to date at any time (system time, steal time) goes to shared pages alone: a private page must stay as it was,
 * and nothing else may happen. In a guest without protection all pages are written.
 *
 * Needs the module guest_canary and /dev/cpu/0/msr.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

/* Documentation/virt/kvm/x86/msr.rst and cpuid.rst, arch/x86/include/uapi/asm/kvm_para.h */
enum { WALL_CLOCK = 0x4b564d00, SYSTEM_TIME = 0x4b564d01, ASYNC_PF = 0x4b564d02, STEAL_TIME = 0x4b564d03,
       PV_EOI = 0x4b564d04 };
enum { CLOCK_BIT = 3, ASYNC_PF_BIT = 4, STEAL_BIT = 5, PV_EOI_BIT = 6 };
#define ENABLED 1ull
#define PATIENCE_NS 3000000000ull	/* KVM writes when it next runs the processor: a few milliseconds */
#define CLOSE_S 5
#define FIRMWARE_S 120	/* KVM's system time starts with the machine, the kernel's with the kernel */

static int device, msrs;
static long long day;	/* s, the host's */
static struct text line;

static uint64_t read_msr(uint32_t number)
{
	uint64_t value;

	if (pread(msrs, &value, sizeof(value), number) != sizeof(value))
		cannot("read an MSR");
	return value;
}

static void write_msr(uint32_t number, uint64_t value)
{
	if (pwrite(msrs, &value, sizeof(value), number) != sizeof(value))
		cannot("write an MSR");
}

static void request(unsigned long command, uint32_t slot, const void *buffer, struct sealproof_canary *answer)
{
	*answer = (struct sealproof_canary){ .slot = slot, .buffer = (uintptr_t)buffer };
	if (ioctl(device, command, answer))
		cannot("use a page of the module's");
}

static void look(uint32_t slot, void *page)
{
	struct sealproof_canary answer;

	request(SEALPROOF_CANARY_READ, slot, page, &answer);
}

static void report(const char *what, const char *page, const char *expected, const char *got)
{
	char name[128];

	snprintf(name, sizeof(name), "%s on a %s page", what, page);
	begin_check(&line, name);
	text_add(&line, ",\"expected\":\"%s\",\"got\":\"%s\"}", expected, got);
	print_line(&line);
}

static bool is_zero(const unsigned char *page)
{
	for (int i = 0; i < SEALPROOF_PAGE_BYTES; i++) {
		if (page[i])
			return false;
	}
	return true;
}

/* struct pvclock_wall_clock: version, seconds, nanoseconds of the time of day at which the system time was 0. */
static const char *wall_clock(const unsigned char *page)
{
	struct timespec system;
	uint32_t clock[3];

	memcpy(clock, page, sizeof(clock));
	clock_gettime(CLOCK_BOOTTIME, &system);
	int64_t off = day - system.tv_sec - clock[1];

	if (clock[0] && !(clock[0] & 1) && off >= -CLOSE_S && off <= FIRMWARE_S)
		return "written";
	static char wrong[80];

	snprintf(wrong, sizeof(wrong), "version %u, %lld s before the kernel's start", clock[0], (long long)off);
	return wrong;
}

/* struct pvclock_vcpu_time_info: version, ..., the multiplier at byte 24. */
static const char *system_time(const unsigned char *page)
{
	uint32_t version, multiplier;

	memcpy(&version, page, sizeof(version));
	memcpy(&multiplier, page + 24, sizeof(multiplier));
	return version && !(version & 1) && multiplier ? "written" : "wrong";
}

/* struct kvm_steal_time: steal, version, flags, preempted. */
static const char *steal_time(const unsigned char *page)
{
	uint32_t version;

	memcpy(&version, page + 8, sizeof(version));
	return version && !(version & 1) ? "written" : "wrong";
}

/*
 * What KVM did to the slot's page. It is waited for until it is right, or time is up: a page that is to stay as it is
 * gets the same time as one that was written needs.
 */
static const char *outcome(uint32_t slot, const char *(*judge)(const unsigned char *page), uint64_t patience)
{
	static unsigned char page[SEALPROOF_PAGE_BYTES];
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + patience;
	const struct timespec nap = { .tv_nsec = 1000000 };
	const char *result;

	do {
		nanosleep(&nap, NULL);	/* the processor halts, and KVM runs it again */
		look(slot, page);
		result = is_zero(page) ? "unchanged" : judge(page);
	} while (strcmp(result, "written") && clock_ns(CLOCK_MONOTONIC) < end);
	return result;
}

static void try(const char *what, uint32_t msr, bool keeps, const char *(*judge)(const unsigned char *page))
{
	static const unsigned char zeros[SEALPROOF_PAGE_BYTES];
	static const char *const names[] = { "shared", "private" };
	uint64_t needed = 0;

	for (uint32_t slot = 0; slot < 2; slot++) {
		const uint64_t before = keeps ? read_msr(msr) : 0;
		struct sealproof_canary page, none;

		request(SEALPROOF_CANARY_PLANT, slot, zeros, &page);
		if (slot == 0)
			request(SEALPROOF_CANARY_SHARE, slot, NULL, &page);
		const bool reached = page.state != SEALPROOF_PRIVATE || !keeps;
		const uint64_t start = clock_ns(CLOCK_MONOTONIC);

		write_msr(msr, page.gpa | (keeps ? ENABLED : 0));
		/* Nothing is waited for longer than ten times what the shared page took. */
		const char *got = outcome(slot, judge, reached || 10 * needed > PATIENCE_NS ? PATIENCE_NS : 10 * needed);

		if (slot == 0)
			needed = clock_ns(CLOCK_MONOTONIC) - start;
		if (keeps)
			write_msr(msr, before);
		report(what, page.state == SEALPROOF_PLAIN ? "plain" : names[slot], reached ? "written" : "unchanged",
		       got);
		if (slot == 0)
			request(SEALPROOF_CANARY_UNSHARE, slot, NULL, &none);
	}
}

/* Whether the guest's kernel uses what it is offered. */
static void in_use(const char *what, int bit, uint32_t msr)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(0x40000001, eax, ebx, ecx, edx);
	begin_check(&line, what);
	text_add(&line, ",\"expected\":\"offered and in use\",\"got\":\"%s\"}",
		 !(eax >> bit & 1) ? "not offered" : read_msr(msr) & ENABLED ? "offered and in use" : "offered");
	print_line(&line);
}

/* Whether KVM writes where the guest's kernel has asked for the stolen time of this processor. */
static void kept_up_to_date(void)
{
	const uint64_t where = read_msr(STEAL_TIME) & ~(uint64_t)ENABLED;
	const int memory = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	unsigned char area[64];

	if (memory < 0 || pread(memory, area, sizeof(area), (off_t)where) != sizeof(area))
		cannot("read the area of the stolen time");
	close(memory);
	begin_check(&line, "the kernel's own area of the stolen time");
	text_add(&line, ",\"expected\":\"written\",\"got\":\"%s\"}", steal_time(area));
	print_line(&line);
}

int main(int argc, char **argv)
{
	const char *what = argc == 2 || argc == 3 ? argv[1] : "";
	const int here = sched_getcpu();
	char path[64];
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET((size_t)here, &only);
	if (here < 0 || sched_setaffinity(0, sizeof(only), &only))
		cannot("stay on one processor");
	snprintf(path, sizeof(path), "/dev/cpu/%d/msr", here);
	device = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);
	msrs = open(path, O_RDWR | O_CLOEXEC);
	if (device < 0 || msrs < 0)
		cannot("open the module's device or the MSRs");
	if (!strcmp(what, "features")) {
		in_use("kvmclock", CLOCK_BIT, SYSTEM_TIME);
		in_use("steal time", STEAL_BIT, STEAL_TIME);
		in_use("end of interrupt", PV_EOI_BIT, PV_EOI);
		in_use("asynchronous page faults", ASYNC_PF_BIT, ASYNC_PF);
		kept_up_to_date();
	} else if (!strcmp(what, "wall-clock") && argc == 3) {
		day = strtoll(argv[2], NULL, 10);
		try("wall clock", WALL_CLOCK, false, wall_clock);
	} else if (!strcmp(what, "system-time")) {
		try("system time", SYSTEM_TIME, true, system_time);
	} else if (!strcmp(what, "steal-time")) {
		try("steal time", STEAL_TIME, true, steal_time);
	} else {
		fprintf(stderr, "usage: check_paravirt features|system-time|steal-time, or wall-clock SECONDS\n");
		return 2;
	}
	return 0;
}
