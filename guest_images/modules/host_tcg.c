// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps two faults of QEMU's emulation of SVM (TCG) from KVM and its guests.
 * Only hosts that it emulates load this.
 *
 * The first: an injected interrupt is delivered twice. helper_vmrun() delivers an interrupt that VMRUN injects, and leaves it in
 * exception_index until the next #VMEXIT. If another thread of QEMU makes the
 * processor leave its loop before that, as it does to throw away translated
 * code or to carry out an access that must be alone, cpu_exec() takes it for an
 * exception and delivers it once more, into the middle of its own handler and
 * whatever IF says (QEMU 10.0: target/i386/tcg/system/svm_helper.c,
 * accel/tcg/cpu-exec.c). The guest's kernel then waits for a lock that it holds
 * itself.
 *
 * So each VMRUN that injects one finds a physical interrupt pending. #VMEXIT
 * comes before the first instruction of the guest's handler, as it also may on a
 * processor, and KVM enters the guest anew with nothing to inject. It is asked to
 * look for events once more then, as it does itself where it wants such an exit:
 * only that tells the guest again that its end of interrupt need not be told.
 *
 * The second: EXITINTINFO says of an event that is over that it is on its way.
 * For each exception that the guest takes, do_interrupt_all() leaves its type in
 * EVENTINJ and takes the valid bit away; #VMEXIT copies that to EXITINTINFO
 * (target/i386/tcg/seg_helper.c). A processor leaves 0. Since Linux 6.14 KVM
 * looks at the type alone, and ends the guest with an internal error where it
 * would emulate an instruction then (arch/x86/kvm/svm/svm.c
 * svm_check_emulate_instruction()): a load from a device, right after a page
 * fault. So what has no valid bit is cleared before KVM handles the exit.
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/version.h>
#include <asm/svm.h>
#include <trace/events/ipi.h>

static int enters_guest(struct kprobe *probe, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (struct kvm_vcpu *)regs_get_kernel_argument(regs, 0);

	if (vcpu->arch.interrupt.injected) {
		kvm_make_request(KVM_REQ_EVENT, vcpu);
		smp_send_reschedule(smp_processor_id());
	}
	return 0;
}

static struct kprobe entry = {
	.symbol_name = "svm_vcpu_run",	/* interrupts are off until VMRUN */
	.pre_handler = enters_guest,
};

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
static int exits_guest(struct kprobe *probe, struct pt_regs *regs)
{
	/* struct vcpu_svm (arch/x86/kvm/svm/svm.h) begins with these two. */
	struct {
		struct kvm_vcpu vcpu;
		struct vmcb *vmcb;
	} *svm = (void *)regs_get_kernel_argument(regs, 0);
	struct vmcb_control_area *control = &svm->vmcb->control;

	if (!(control->exit_int_info & SVM_EXITINTINFO_VALID))
		control->exit_int_info = 0;
	return 0;
}

static struct kprobe handler = {
	.symbol_name = "svm_handle_exit",
	.pre_handler = exits_guest,
};

static struct kprobe *probes[] = { &entry, &handler };
#else
static struct kprobe *probes[] = { &entry };
#endif

static int __init tcg_init(void)
{
	return register_kprobes(probes, ARRAY_SIZE(probes));
}

static void __exit tcg_exit(void)
{
	unregister_kprobes(probes, ARRAY_SIZE(probes));
}

module_init(tcg_init);
module_exit(tcg_exit);
MODULE_DESCRIPTION("sealproof: keeps faults of an emulation of SVM from KVM");
MODULE_LICENSE("GPL");
