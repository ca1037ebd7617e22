// SPDX-License-Identifier: GPL-2.0-or-later
/* Processors that have another one's number. */
#include <sys/ioctl.h>

#include "twins.h"
#include "refusals.h"
#include "second.h"
#include "shutdown.h"
#include "waits.h"

#define LOGICAL_NUMBER (APIC + 0xd0)

/* What the host side is asked. */
enum { ADD_TWIN = 0x4200, RUN_TWIN, RUN_TWIN_BESIDE, LOOK_AT_TWIN, TRY_TWIN };

/* It would be started along with the second processor, and run the same code on the same stack, when the VMM likes. */
static GUEST void twin_does_not_run(void)
{
	service(ADD_TWIN);
	*(volatile uint32_t *)(uint64_t)LOGICAL_NUMBER = 1u << 24;	/* KVM looks at the numbers when one changes */
	start_second();
	tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
	tell("what KVM_RUN says of another one with its APIC's number, or 0 if it comes to run there", way == PLAIN ? 0 : EINVAL,
	     service(RUN_TWIN));
}

static GUEST void add_twin_and_enable(void)
{
	service(ADD_TWIN);
	enable_with_registers();
}

static GUEST void run_twin_and_enable(void)
{
	service(RUN_TWIN_BESIDE);
	enable_with_registers();
}

/* It is in KVM_RUN already, so that nobody asks whether it may run. */
static GUEST void running_twin_does_not_start(void)
{
	if (way == PLAIN)
		service(RUN_TWIN_BESIDE);
	*(volatile uint32_t *)(uint64_t)LOGICAL_NUMBER = 1u << 24;
	start_second();
	tell("the second processor runs where the guest starts it", 1, service(RUN_SECOND));
	tell("another one with its APIC's number, which is in KVM_RUN already, runs there", way == PLAIN, service(LOOK_AT_TWIN));
}

/* With numbers of 32 bits such a processor may run, and KVM finds the one that was created first. */
static GUEST void wide_twin_does_not_start(void)
{
	*(volatile uint32_t *)(uint64_t)LOGICAL_NUMBER = 1u << 24;
	start_second();
	tell("the second processor runs where the guest starts it", way != PLAIN, service(RUN_SECOND));
	tell("another one runs there, by the low byte of its number", way == PLAIN, service(TRY_TWIN));
}

/* 0 when it comes to the second processor's port; else the errno of KVM_RUN. */
static uint64_t run_twin(struct vm *vm)
{
	if (!run_a_while(vm->third))
		return (uint64_t)errno;
	return vm->third_run->exit_reason == KVM_EXIT_IO && vm->third_run->io.port == PORT_SECOND ? 0 : OTHER_EXIT;
}

/* Has a twin that waits to be started, and in KVM_RUN. */
static void run_twin_beside(struct vm *vm)
{
	const struct kvm_mp_state waits = { KVM_MP_STATE_INIT_RECEIVED };

	add_third(vm, TWIN);
	if (ioctl(vm->third, KVM_SET_MP_STATE, &waits))
		cannot("have a virtual CPU wait to be started");
	start_beside(run_third_beside, vm);
	wait_ns(COMES_NS);
}

static uint64_t serve_twin(struct vm *vm, uint32_t what)
{
	switch (what) {
	case ADD_TWIN:
		add_third(vm, TWIN);
		return 0;
	case RUN_TWIN:
		return run_twin(vm);
	case RUN_TWIN_BESIDE:
		run_twin_beside(vm);
		return 0;
	case LOOK_AT_TWIN:
		await_flag(&meanwhile.third_ran);
		return meanwhile.third_ran;
	case TRY_TWIN:
		return run_a_while(vm->third) && vm->third_run->exit_reason == KVM_EXIT_IO &&
		       vm->third_run->io.port == PORT_SECOND;
	default:
		return serve_second(vm, what);
	}
}

const struct row twins_rows[] = {
	{ "twin", twin_does_not_run, .operands = NULL, .serve = serve_twin, .first = enable_with_registers, .second = true },
	{ "twin-before", twin_does_not_run, .operands = NULL, .serve = serve_twin, .first = add_twin_and_enable,
	  .second = true },
	{ "twin-runs", running_twin_does_not_start, .operands = NULL, .serve = serve_twin, .first = run_twin_and_enable,
	  .second = true },
	{ "twin-wide", wide_twin_does_not_start, .operands = NULL, .serve = serve_twin, .first = enable_with_registers,
	  .second = true, .wide_twin = true },
	{ .name = NULL },
};
