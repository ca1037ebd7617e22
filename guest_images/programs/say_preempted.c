// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * say_preempted - tells a guest all along that one of its processors does not run
 *
 * usage: say_preempted PID ADDRESS      the guest's QEMU, and where that has the processor's struct kvm_steal_time
 *
 * Prints {"told":true} when it has begun. A line of input ends it, and it prints {"asked":N}: how often the guest had
 * asked in the same byte to flush that processor's TLB. It takes the request away.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>

#include "lib/check.h"

/* arch/x86/include/uapi/asm/kvm_para.h: KVM_VCPU_PREEMPTED, KVM_VCPU_FLUSH_TLB */
#define PREEMPTED 1
#define FLUSH_TLB 2
#define BYTE_AT 16	/* in struct kvm_steal_time */
#define STORES 64	/* between two looks at the input */

int main(int argc, char **argv)
{
	const uint64_t pid = number_argument(argc, argv, 1, 0), address = number_argument(argc, argv, 2, 0);
	const unsigned char preempted = PREEMPTED;
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned long asked = 0;
	unsigned char byte;
	char path[64];

	if (argc != 3) {
		fprintf(stderr, "usage: say_preempted PID ADDRESS\n");
		return 2;
	}
	snprintf(path, sizeof(path), "/proc/%llu/mem", (unsigned long long)pid);
	const int memory = open(path, O_RDWR | O_CLOEXEC);

	if (memory < 0)
		cannot("open the memory of that process");
	printf("{\"told\":true}\n");
	fflush(stdout);
	do {
		for (int left = STORES; left; left--) {
			if (pread(memory, &byte, 1, (off_t)address + BYTE_AT) != 1)
				cannot("look what the guest says");
			if (byte == PREEMPTED)	/* a store would take away what is asked for meanwhile */
				continue;
			asked += (byte & FLUSH_TLB) != 0;
			if (pwrite(memory, &preempted, 1, (off_t)address + BYTE_AT) != 1)
				cannot("tell the guest");
		}
	} while (poll(&input, 1, 0) == 0);
	printf("{\"asked\":%lu}\n", asked);
	return 0;
}
