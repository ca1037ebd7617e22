// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * check_descriptors - a table of descriptors put to use by KVM's emulator, compared with the processor's own doing.
 *
 * usage: check_descriptors
 *
 * In ring 0, by the module guest_emulation; the table lies in private memory, and then in shared. Loading a segment
 * makes its descriptor accessed, loading a task's makes it busy: both are written to the table.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../modules/sealproof_uapi.h"
#include "check.h"

static void use(int device, struct sealproof_descriptors *request)
{
	if (ioctl(device, SEALPROOF_DESCRIPTORS, request))
		cannot("use a table of descriptors");
}

static void report(const char *what, bool shared, const char *expected, const char *got)
{
	struct text t = { 0 };
	char name[128];

	snprintf(name, sizeof(name), "%s, in %s memory", what, shared ? "shared" : "private");
	begin_check(&t, name);
	text_add(&t, ",\"expected\":\"%s\",\"got\":\"%s\"}", expected, got);
	print_line(&t);
	free(t.data);
}

#define COMPARE(what, format, ...)							\
	do {										\
		char expected[64], got[64];						\
		const struct sealproof_descriptors *s = &own;				\
											\
		snprintf(expected, sizeof(expected), format, __VA_ARGS__);		\
		s = &emulated;								\
		snprintf(got, sizeof(got), format, __VA_ARGS__);			\
		report(what, shared, expected, got);					\
	} while (0)

static void check(int device, bool shared)
{
	struct sealproof_descriptors own = { .shared = shared }, emulated = { .shared = shared, .by_prefix = true };
	char types[64];

	use(device, &own);
	use(device, &emulated);
	/* What the processor does is known, too: so the descriptors began as they must. */
	snprintf(types, sizeof(types), "data %u, code %u, tss %u, system %u", own.data, own.code, own.tss, own.system);
	report("the processor's own doing", shared, "data 3, code 11, tss 11, system 2", types);
	COMPARE("lgdt and sgdt: limit, and whether the address is the same", "%#x %u", s->stored_size, s->stored_right);
	COMPARE("mov to es: selector, type of the descriptor", "%#x %u", s->es, s->data);
	COMPARE("far return: type of the code's descriptor", "%u", s->code);
	COMPARE("ltr and str: selector, type of the descriptor", "%#x %u", s->tr, s->tss);
	COMPARE("lldt and sldt: selector, type of the descriptor", "%#x %u", s->ldt, s->system);
}

int main(void)
{
	int device = open("/dev/" SEALPROOF_EMULATION_NAME, O_RDWR | O_CLOEXEC);

	if (device < 0)
		cannot("open /dev/" SEALPROOF_EMULATION_NAME);
	check(device, false);
	check(device, true);
	return 0;
}
