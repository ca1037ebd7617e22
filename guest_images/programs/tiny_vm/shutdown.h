/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_SHUTDOWN_H
#define TINY_VM_SHUTDOWN_H

#include "vmm.h"

#define SECRET_WORD ((uint32_t)SECRET)
#define OTHER_EXIT (2ull << 32)	/* KVM_RUN came back for that other reason */
#define SHUT_DOWN_AGAIN (OTHER_EXIT + KVM_EXIT_SHUTDOWN)

GUEST void keep_a_secret(void);
void report_rom(struct text *line, const struct vm *vm);
void take_shutdown(struct vm *vm);

extern const struct row shutdown_rows[];

#endif
