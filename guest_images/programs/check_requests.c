// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_requests - what KVM answers to requests about protected memory that it must refuse
 *
 * usage: check_requests
 *
 * From ring 0 (by the module guest_canary) and from ring 3. What is expected depends on what the guest is: a protected
 * one, one that has not asked but is offered protection (CPUID), or one on a host that knows nothing of it. Nothing here
 * changes what is private: the one request that would, in a guest that has not asked, is not made.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "lib/check.h"

/* linux/kvm_para.h and asm/kvm_para.h of the series protected-memory */
enum { ENABLE = 13, SHARE = 14, UNSHARE = 15, FEATURE = 18 };
enum { KVM_EPERM = 1, KVM_EINVAL = 22, KVM_ENOSYS = 1000 };

static void report(const char *what, int64_t expected, int64_t got)
{
	struct text t = { 0 };

	begin_check(&t, what);
	text_add(&t, ",\"expected\":%lld,\"got\":%lld}", (long long)expected, (long long)got);
	print_line(&t);
}

static int64_t from_kernel(int fd, uint64_t number, uint64_t gfn, uint64_t pages)
{
	struct sealproof_hypercall call = { .number = number, .a0 = gfn, .a1 = pages };

	if (ioctl(fd, SEALPROOF_HYPERCALL, &call))
		cannot("make a hypercall");
	return call.result;
}

static int64_t from_user(uint64_t number, bool amd)
{
	int64_t result;

	if (amd)
		asm volatile("vmmcall" : "=a"(result) : "a"(number), "b"(0L), "c"(1L) : "memory");
	else
		asm volatile("vmcall" : "=a"(result) : "a"(number), "b"(0L), "c"(1L) : "memory");
	return result;
}

static bool is_amd(void)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(0, eax, ebx, ecx, edx);
	return ebx == signature_AMD_ebx;
}

static bool is_offered(void)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(0x40000001, eax, ebx, ecx, edx);
	return eax & 1u << FEATURE;
}

int main(void)
{
	static const struct {
		const char *what;
		uint64_t gfn, pages;
	} bad[] = {
		{ "no pages", 16, 0 },
		{ "a page number that wraps", UINT64_MAX, 2 },
		{ "a count that wraps", 16, UINT64_MAX },
		{ "more pages than there are", 0, 1ull << 40 },
		/* What is left of these in 32 bits is a page that there is. */
		{ "a page number of more than 32 bits", (1ull << 32) + 16, 1 },
		{ "a count of more than 32 bits", 16, (1ull << 32) + 1 },
		{ "a hole", 0xfe000, 1 },
		{ "a range that ends in a hole", 0x100, 0xfe000 },
		{ "the local APIC's page", 0xfee00, 1 },
	};
	struct sealproof_canary canary = { .slot = 0 };
	int fd = open("/dev/" SEALPROOF_CANARY_NAME, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cannot("open the module's device");
	if (ioctl(fd, SEALPROOF_CANARY_STATE, &canary))
		cannot("ask for the guest's state");

	bool protected = canary.state != SEALPROOF_PLAIN;
	int64_t expected = protected ? -KVM_EINVAL : is_offered() ? -KVM_EPERM : -KVM_ENOSYS;
	char name[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(name, sizeof(name), "share: %s", bad[i].what);
		report(name, expected, from_kernel(fd, SHARE, bad[i].gfn, bad[i].pages));
		snprintf(name, sizeof(name), "take back: %s", bad[i].what);
		report(name, expected, from_kernel(fd, UNSHARE, bad[i].gfn, bad[i].pages));
	}
	if (protected) {
		report("to ask for protection again changes nothing", 0, from_kernel(fd, ENABLE, 0, 0));
		/* A guest that gets a yes believes that it has what it asks for. */
		report("ask for what KVM does not know", -KVM_EINVAL, from_kernel(fd, ENABLE, 1u << 1, 0));
		report("ask for what KVM does not know, beyond 32 bits", -KVM_EINVAL, from_kernel(fd, ENABLE, 1ull << 32, 0));
	}
	report("ring 3: ask for protection", -KVM_EPERM, from_user(ENABLE, is_amd()));
	report("ring 3: share", -KVM_EPERM, from_user(SHARE, is_amd()));
	report("ring 3: take back", -KVM_EPERM, from_user(UNSHARE, is_amd()));

	uint32_t state = canary.state;

	canary.state = 0;
	if (ioctl(fd, SEALPROOF_CANARY_STATE, &canary))
		cannot("ask for the guest's state again");
	report("the guest is what it was", state, canary.state);
	return 0;
}
