/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_EXITS_H
#define TINY_VM_EXITS_H

#include "vmm.h"

#define KVMS_WINDOW 0x40000000		/* where KVM has a private page mapped; arch/x86/mm/guest_page.c of the series */

extern volatile sig_atomic_t alarms;
void take_kick(int number);
void take_alarm(int number);
void wrong_exit(struct vm *vm, const char *what, uint64_t more);
void set_fail_nth(const struct vm *vm, uint32_t nth);
bool has_failed(const struct vm *vm);

void run_until(struct vm *vm, unsigned int port);

#endif
