/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_SECOND_H
#define TINY_VM_SECOND_H

#include "vmm.h"

#define PORT_SECOND 0xe5	/* the second processor is at work; nothing follows */
#define PORT_MANAGED 0xe6	/* system management mode was entered */
#define PORT_ANEW 0xe7		/* the first processor is at its reset vector */
#define START_VECTOR 0x10u	/* of STARTUP, and so real-mode code at 0x10000: the guest's */
#define FIRMWARE_VECTOR 0xf0u	/* at 0xf0000: the VMM's, which is shared from the start */
#define MANAGED_AT 0x38000u	/* where a processor enters system management mode after a reset */
#define DELIVER_INIT 0x4500u
#define DELIVER_STARTUP 0x4600u
#define LATE 2u			/* a processor that is created when the guest runs already */
#define RESET_VECTOR 0xfffffff0u
#define MSR_PAT 0x277u
#define PAT_VALUE 0x0007040100070406ull
#define SECOND_TELLS 0x201ull	/* as TELL_SECRET of refusals.c: general and model-specific registers */

/* What the host side is asked. */
enum { SET_SECOND = 0x4000, START_SECOND, RUN_SECOND, ASK_SECOND, INTERRUPT_FOR_MANAGEMENT, COUNT_MANAGED, RESET_MACHINE,
       INTERRUPT_SECOND, INTERRUPT_ALL_FOR_MANAGEMENT, OFFER_SECOND_THE_SAME, OFFER_SECOND_ANOTHER,
       STEP_SECOND, COUNT_SECOND_STEPS, WIDEN, STOP_SECOND, STOP_BY_LINE, ADD_LATE, RUN_LATE, ASK_FIRST };

/* SECRET in two halves, into the model-specific register that ecx names. */
#define PUT_SECRET \
	"	mov $0xe7c0ffee, %eax\n" \
	"	mov $0x5ec2, %edx\n" \
	"	wrmsr\n"

GUEST void copy_code(uint64_t to, const unsigned char *from, const unsigned char *end);
GUEST void start_second_at(const unsigned char *from, const unsigned char *end);
GUEST void start_second(void);

#define RUN_US 1000000	/* for a processor to get to work */

void send_message(const struct vm *vm, uint32_t whom, uint32_t data);
bool run_a_while(int cpu);
uint64_t run_second(struct vm *vm);
void set_to_reset(struct vm *vm);

#define WIDE 7u	/* of XCR0: x87, SSE, AVX */

/* The guest's vector registers are of 256 bits. QEMU's emulation of a processor lets no guest of a guest do it itself. */
void widen(int cpu);
uint64_t serve_second(struct vm *vm, uint32_t what);

extern const struct row second_rows[];

#endif
