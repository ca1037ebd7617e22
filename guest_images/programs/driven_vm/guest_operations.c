// SPDX-License-Identifier: GPL-2.0-or-later
/* What the guest does, which slots of memory it has, how it is reset and ends, and another VM of the process. */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "../lib/check.h"
#include "operations.h"
#include "page.h"
#include "vm.h"
#include "words.h"

#define WINDOW 0x100000u	/* where a second VM sees the arena */

void do_enable(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	add_call(reply, &first_vm, HC_ENABLE, 0, 0);
}

void do_share(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_call(reply, &first_vm, HC_SHARE, number_of(args[0]), number_of(args[1]));
}

void do_unshare(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_call(reply, &first_vm, HC_UNSHARE, number_of(args[0]), number_of(args[1]));
}

/* fill GFN PAGES NUMBER native|emulated: each page gets a number of its own */
void do_fill(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number_of(args[1]); i++) {
		const uint32_t word = MARK | (uint32_t)(number_of(args[2]) + i);

		add_each(reply, i, guest_fill_result(&first_vm, (number_of(args[0]) + i) * PAGE, word, is_emulated(args[3])));
	}
	text_add(reply, "]");
}

/* look GFN PAGES native|emulated */
void do_look(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number_of(args[1]); i++)
		add_each(reply, i, guest_look_result(&first_vm, (number_of(args[0]) + i) * PAGE, is_emulated(args[2])));
	text_add(reply, "]");
}

/* slot ID GFN PAGES PLACE rw|ro */
void do_slot(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, set_slot(&first_vm, (uint32_t)number_of(args[0]), strcmp(args[4], "ro") ? 0 : KVM_MEM_READONLY,
				  number_of(args[1]) * PAGE, number_of(args[2]), place_of(args[3])));
}

void do_unslot(int argc, char **args, struct text *reply)
{
	(void)argc;
	add_error(reply, set_slot(&first_vm, (uint32_t)number_of(args[0]), 0, 0, 0, arena));
}

/* The machine is reset as a VMM does it, and begins anew. */
void do_reset(int argc, char **args, struct text *reply)
{
	struct kvm_regs regs = { .rflags = 2, .rip = 0xfff0 };

	(void)argc;
	(void)args;
	set_processor(&first_vm, true);
	run_vm(&first_vm, &regs);	/* whatever comes of that */
	set_processor(&first_vm, false);
	if (sigsetjmp(after_fault, 0)) {
		add_result(reply, fault_name);
		return;
	}
	memset(first_vm.ram, 0, RAM_PAGES * PAGE);
	load_guest_code(&first_vm);
	add_result(reply, "ok");
}

/* The VM is no more; its VMM is. */
void do_destroy(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	leave_vm(&first_vm);
	add_result(reply, "ok");
}

/* second PLACE PAGES: a second VM of this process sees these */
void do_second(int argc, char **args, struct text *reply)
{
	(void)argc;
	if (!second_vm.fd)
		make_driven_vm(&second_vm);
	set_slot(&second_vm, 1, 0, 0, 0, arena);	/* there may be none */
	add_error(reply, set_slot(&second_vm, 1, 0, WINDOW, number_of(args[1]), place_of(args[0])));
}

/* seconds PAGES: what it finds there */
void do_seconds(int argc, char **args, struct text *reply)
{
	(void)argc;
	text_add(reply, "[");
	for (unsigned int i = 0; i < number_of(args[0]); i++)
		add_each(reply, i, guest_look_result(&second_vm, WINDOW + i * PAGE, false));
	text_add(reply, "]");
}

void do_second_enables(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	if (!second_vm.fd)
		make_driven_vm(&second_vm);
	add_call(reply, &second_vm, HC_ENABLE, 0, 0);
}
