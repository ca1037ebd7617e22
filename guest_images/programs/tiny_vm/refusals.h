/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_REFUSALS_H
#define TINY_VM_REFUSALS_H

#include "vmm.h"

#define PRIVATE_REGISTERS 1		/* KVM_MEM_PROTECTED_STATE */

#define SECRET 0x00005ec2e7c0ffeeull	/* an address, as MSRs want one */
#define MSR_LSTAR 0xc0000082u
#define TELL_SECRET 0x2bfull		/* of the ioctls that ask_state() tries, those that tell one of the secrets; a bit each */

/*
 * Model-specific registers that take any address: STAR, LSTAR, CSTAR, SYSENTER's stack and code, the other base of GS;
 * those that no INIT changes: the status of machine checks, address and more of the first of their banks, and how power
 * is managed; and those of 32 bits: the flags that SYSCALL clears, and what RDTSCP tells.
 */
#define SECRET_MSRS 12u

extern const uint32_t secret_msrs[SECRET_MSRS];

#define WIDE_MSRS 10u

/* Registers that hold the secret when the host side is asked, and what they hold afterwards. */
struct kept {
	uint64_t general, vector, debug, control;
	uint64_t specific;	/* registers that have it still */
};

GUEST uint64_t service_with_secrets(uint32_t what, struct kept *kept);
GUEST void enable_with_registers(void);
GUEST void nothing_more(void);

#define STATE_BYTES 65536u	/* more than any ioctl tells */

extern unsigned char *state;
void have_state(void);
uint64_t ask_state(int cpu);

extern const struct row refusals_rows[];

#endif
