// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps QEMU's emulation of SVM (TCG) from delivering an injected interrupt
 * twice. Only hosts that it emulates load this.
 *
 * helper_vmrun() delivers an interrupt that VMRUN injects, and leaves it in
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
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/smp.h>
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

static int __init tcg_init(void)
{
	return register_kprobe(&entry);
}

static void __exit tcg_exit(void)
{
	unregister_kprobe(&entry);
}

module_init(tcg_init);
module_exit(tcg_exit);
MODULE_DESCRIPTION("sealproof: delivers an injected interrupt once");
MODULE_LICENSE("GPL");
