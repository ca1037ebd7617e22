// SPDX-License-Identifier: GPL-2.0-or-later
/* Addresses at which a VMM has KVM write on its own account, beside those of single pages that QEMU gives it. */
#include <sys/ioctl.h>

#include "addresses.h"
#include "paravirt.h"
#include "ranges.h"
#include "refusals.h"

/* The operands' pages: the clock begins on one and ends on the next. */
enum { CLOCK_START, CLOCK_END, MESSAGE_PAGE, PRIORITY_PAGE, TIME_PAGE, ADDRESSED_PAGES };

/* What the host side is asked. */
enum { GIVE_TIME = 0xb000, UPDATE_TIME, GIVE_CLOCK, GIVE_MESSAGES, GIVE_PRIORITY };

/*
 * arch/x86/include/asm/hyperv-tlfs.h: HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_TSC_EMULATION_CONTROL, HV_X64_MSR_SIMP,
 * HV_X64_MSR_STIMER0_COUNT, HV_X64_MSR_STIMER0_CONFIG.
 */
#define HV_TIME_PAGE 0x40000021u
#define HV_TIME_STANDS 0x40000107u
#define HV_MESSAGE_PAGE 0x40000083u
#define HV_TIMER_COUNT 0x400000b1u
#define HV_TIMER_CONFIG 0x400000b0u
#define HV_TIMER_ON (1u | 2u << 16)	/* on, and by the third of the page's messages */
#define EXITS 4u
#define INTERRUPT_MYSELF (0x40000u | IRQ)

static GUEST bool is_written(unsigned int page)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < PAGE / 8; i++)
		sum |= ((volatile uint64_t *)operands[page])[i];
	return sum;
}

/* The VMM may name the page before the guest is protected. KVM leaves what is there while time is said to stand. */
static GUEST void give_time(void)
{
	fill_pages((uint64_t)operands[TIME_PAGE], 1, OLD_WORD);
	service(GIVE_TIME);
	cpuid_word(0, 0);
	tell("the page of Hyper-V's time, before", 1, whole_pages((uint64_t)operands[TIME_PAGE], 1, OLD_WORD));
}

/* Of private pages none is written to; of shared ones a whole one is, but by nobody who would tell the task priority. */
static GUEST void no_address_is_written_to(void)
{
	if (way == PLAIN)
		give_time();
	service(UPDATE_TIME);
	cpuid_word(0, 0);
	tell("the page of Hyper-V's time is as it was", way == PRIVATE,
	     whole_pages((uint64_t)operands[TIME_PAGE], 1, OLD_WORD));
	service(GIVE_CLOCK);
	tell("a clock across two pages is written", way == PLAIN, is_written(CLOCK_START) || is_written(CLOCK_END));
	service(GIVE_MESSAGES);
	for (unsigned int i = 0; i < EXITS; i++)	/* KVM looks at its timers when the guest is to go on */
		cpuid_word(0, 0);
	tell("a message of Hyper-V's is written", way != PRIVATE, is_written(MESSAGE_PAGE));
	service(GIVE_PRIORITY);
	*(volatile uint32_t *)(uint64_t)(APIC + 0xf0) = 0x1ff;
	*(volatile uint32_t *)(uint64_t)TASK_PRIORITY = 0x30;
	*(volatile uint32_t *)(uint64_t)(APIC + 0x300) = INTERRUPT_MYSELF;	/* KVM writes where there may be one to take */
	cpuid_word(0, 0);
	tell("the task priority is written", way == PLAIN, is_written(PRIORITY_PAGE));
	*(volatile uint32_t *)(uint64_t)TASK_PRIORITY = 0;
}

/* A timer of Hyper-V's that is over, whose message goes to a place in that page. */
static void give_page_for_messages(const struct vm *vm, uint64_t page)
{
	const struct kvm_enable_cap messages = { .cap = KVM_CAP_HYPERV_SYNIC };

	if (ioctl(vm->cpu, KVM_ENABLE_CAP, &messages))
		cannot("have messages of Hyper-V's");
	give_address(vm, HV_MESSAGE_PAGE, page | 1);
	give_address(vm, HV_TIMER_COUNT, 1);
	give_address(vm, HV_TIMER_CONFIG, HV_TIMER_ON);
}

static uint64_t serve_addresses(struct vm *vm, uint32_t what)
{
	const struct kvm_vapic_addr priority = { .vapic_addr = (uintptr_t)operands[PRIORITY_PAGE] };

	struct kvm_clock_data clock = { 0 };

	switch (what) {
	case GIVE_TIME:
		give_address(vm, HV_TIME_STANDS, 1);
		give_address(vm, HV_TIME_PAGE, (uintptr_t)operands[TIME_PAGE] | 1);
		return 0;
	case UPDATE_TIME:
		give_address(vm, HV_TIME_STANDS, 0);
		if (ioctl(vm->fd, KVM_SET_CLOCK, &clock))
			cannot("set the VM's clock");
		return 0;
	case GIVE_CLOCK:
		give_address(vm, MSR_WALL_CLOCK, (uintptr_t)operands[CLOCK_END] - 4);
		return 0;
	case GIVE_MESSAGES:
		give_page_for_messages(vm, (uintptr_t)operands[MESSAGE_PAGE]);
		return 0;
	default:
		if (ioctl(vm->cpu, KVM_SET_VAPIC_ADDR, &priority))
			cannot("have the task priority written");
		return 0;
	}
}

const struct row addresses_rows[] = {
	{ "addresses", no_address_is_written_to, .operands = operands, .pages = ADDRESSED_PAGES, .serve = serve_addresses,
	  .first = give_time },
	{ .name = NULL },
};
