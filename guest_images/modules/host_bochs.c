// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps two faults of Bochs's from a guest's run. Only hosts that Bochs emulates
 * load this.
 *
 * An external interrupt ends a guest's run whatever the guest's IF says (Intel
 * SDM 3, "External-interrupt exiting"). Bochs 2.7 decides what IF masks while it
 * loads the guest's state, before it is in the guest (cpu/vmx.cc:
 * VMenterLoadCheckGuestState(); cpu/flag_ctrl_pro.cc:
 * handleInterruptMaskChange()). A guest that is entered with IF clear gets no
 * exit by an interrupt until it changes IF. One that waits in a loop for
 * something that the host's only processor is to do waits for good.
 *
 * So the preemption timer, which heeds no IF, ends the run every few
 * milliseconds. KVM has the timer on, and sets it to its largest value where it
 * does not use it. KVM takes such an exit for a spurious one and enters the guest
 * anew, with interrupts off all the while, unless somebody is to be scheduled: so
 * that is asked for.
 *
 * An instruction that ends the guest's run has no single-step trap behind it, as
 * it is not carried out (Intel SDM 3, "Saving Non-Register State": pending debug
 * exceptions). Bochs 2.7 notes the trap before it carries an instruction out, and
 * saves the note (cpu/event.cc: handleAsyncEvent(); cpu/vmx.cc:
 * VMexitSaveGuestState()). When the VMM has ended its stepping by then, the guest
 * gets that trap. Where a run ends between two instructions, Bochs has delivered
 * the trap of the first one before, but for the monitor trap flag. So the note is
 * cleared; not where STI or MOV SS blocks, where TF demands it ("Checks on Guest
 * Non-Register State").
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <asm/debugreg.h>
#include <asm/vmx.h>

#define NOT_USED UINT_MAX	/* vmx_update_hv_timer() */
#define MOST 200000u		/* ticks, which are instructions: 2 ms at 100 million a second */

static u32 read_field(unsigned long field)
{
	unsigned long value;

	asm volatile("vmread %1, %0" : "=r"(value) : "r"(field) : "cc");
	return value;
}

static void write_field(unsigned long field, unsigned long value)
{
	asm volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc");
}

static int enters_guest(struct kprobe *probe, struct pt_regs *regs)
{
	const u32 timer = read_field(VMX_PREEMPTION_TIMER_VALUE);

	if (timer == NOT_USED)
		write_field(VMX_PREEMPTION_TIMER_VALUE, MOST);
	else if (timer == MOST && (u16)read_field(VM_EXIT_REASON) == EXIT_REASON_PREEMPTION_TIMER)
		set_tsk_need_resched(current);
	return 0;
}

/*
 * An exit by the timer is between two instructions, as one by an interrupt is: KVM
 * may tell the guest that its processor does not run.
 */
static int has_left_guest(struct kprobe *probe, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (struct kvm_vcpu *)regs_get_kernel_argument(regs, 0);
	const u16 reason = read_field(VM_EXIT_REASON);
	const u32 traps = read_field(GUEST_PENDING_DBG_EXCEPTIONS);

	if (reason == EXIT_REASON_PREEMPTION_TIMER)
		vcpu->arch.at_instruction_boundary = true;
	if (traps & DR_STEP && reason != EXIT_REASON_MONITOR_TRAP_FLAG &&
	    !(read_field(GUEST_INTERRUPTIBILITY_INFO) & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS)))
		write_field(GUEST_PENDING_DBG_EXCEPTIONS, traps & ~DR_STEP);
	return 0;
}

static struct kprobe entry = {
	.symbol_name = "kvm_wait_lapic_expire",	/* between the timer's setting and the guest */
	.pre_handler = enters_guest,
};
static struct kprobe leave = {
	.symbol_name = "vmx_handle_exit_irqoff",	/* when it is not entered anew at once */
	.pre_handler = has_left_guest,
};
static struct kprobe *probes[] = { &entry, &leave };

static int __init bochs_init(void)
{
	return register_kprobes(probes, ARRAY_SIZE(probes));
}

static void __exit bochs_exit(void)
{
	unregister_kprobes(probes, ARRAY_SIZE(probes));
}

module_init(bochs_init);
module_exit(bochs_exit);
MODULE_DESCRIPTION("sealproof: keeps faults of Bochs's from a guest's run");
MODULE_LICENSE("GPL");
