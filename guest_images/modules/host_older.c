// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has KVM answer as a host that knows private memory and no private registers:
 * a guest that asks for both is told that there is no such request (KVM_EINVAL).
 * For as long as it is loaded, which one test does.
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/module.h>

#define ENABLE 13	/* series: include/uapi/linux/kvm_para.h KVM_HC_ENABLE_MEM_PROTECTED */
#define NO_FLAG (1ul << 1)	/* that KVM does not know either */
#define GUESTS 8	/* that may ask at the same time */

/* The processor whose request is another one now. */
struct asked {
	struct kvm_vcpu *vcpu;
	unsigned long flags;
};

static int asks(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct asked *asked = (struct asked *)instance->data;

	asked->vcpu = (struct kvm_vcpu *)regs_get_kernel_argument(regs, 0);
	asked->flags = asked->vcpu->arch.regs[VCPU_REGS_RBX];
	if (asked->vcpu->arch.regs[VCPU_REGS_RAX] != ENABLE || !asked->flags)
		return 1;	/* nothing to put back */
	asked->vcpu->arch.regs[VCPU_REGS_RBX] = NO_FLAG;
	return 0;
}

static int is_told(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	const struct asked *asked = (const struct asked *)instance->data;

	asked->vcpu->arch.regs[VCPU_REGS_RBX] = asked->flags;
	return 0;
}

static struct kretprobe request = {
	.kp.symbol_name = "kvm_emulate_hypercall",
	.entry_handler = asks,
	.handler = is_told,
	.data_size = sizeof(struct asked),
	.maxactive = GUESTS,
};

static int __init older_init(void)
{
	return register_kretprobe(&request);
}

static void __exit older_exit(void)
{
	unregister_kretprobe(&request);
}

module_init(older_init);
module_exit(older_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A KVM that knows no private registers");
