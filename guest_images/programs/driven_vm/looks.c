// SPDX-License-Identifier: GPL-2.0-or-later
/* What each way finds in the arena, what KVM has of the VM, and where the arena is. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>

#include "../../modules/sealproof_uapi.h"
#include "../lib/check.h"
#include "operations.h"
#include "page.h"
#include "vm.h"
#include "words.h"

#define SHARED_MOST 256u	/* ranges that KVM's book may have */

/* Of each page of the arena: load, write(), process_vm_readv(), /proc/self/mem, direct map; one word if they agree. */
void do_sweep(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	text_add(reply, "[");
	for (unsigned int i = 0; i < ARENA_PAGES; i++) {
		const unsigned char *const page = arena + i * PAGE;
		char result[5][16];
		bool agree = true;

		snprintf(result[0], sizeof(*result), "%s", load_result(page));
		snprintf(result[1], sizeof(*result), "%s", write_result(page));
		snprintf(result[2], sizeof(*result), "%s", process_vm_readv_result(page));
		snprintf(result[3], sizeof(*result), "%s", proc_mem_result(page));
		snprintf(result[4], sizeof(*result), "%s", direct_map_result(page));
		for (unsigned int way = 1; way < 5; way++)
			agree &= !strcmp(result[way], result[0]);
		if (agree)
			add_each(reply, i, result[0]);
		else
			text_add(reply, "%s\"%s %s %s %s %s\"", i ? "," : "", result[0], result[1], result[2], result[3], result[4]);
	}
	text_add(reply, "]");
}

static uint64_t count_of(const char *text, const char *name)
{
	const char *const result = strstr(text, name);

	return result ? strtoull(result + strlen(name), NULL, 10) : UINT64_MAX;
}

/* What KVM has of the VM: whether it is protected, its counts, and which pages are shared, by its own book. */
void do_book(int argc, char **args, struct text *reply)
{
	static struct sealproof_slot slots[64];
	static struct sealproof_pages shared[SHARED_MOST];
	struct sealproof_vm vm = { .fd = (uint32_t)first_vm.fd, .slots = 64, .slot_buffer = (uintptr_t)slots,
				   .shared = SHARED_MOST, .shared_buffer = (uintptr_t)shared };
	char path[96], text[512] = "";

	(void)argc;
	(void)args;
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/protected_memory", getpid(), first_vm.fd);
	const int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0) {	/* a kernel that knows nothing of it */
		add_result(reply, "none");
		return;
	}
	if (read(file, text, sizeof(text) - 1) <= 0)
		cannot(path);
	close(file);
	const int oracle = open_path("/dev/" SEALPROOF_ORACLE_NAME, O_RDWR);

	if (ioctl(oracle, SEALPROOF_VM, &vm))
		cannot("ask KVM about the VM");
	close(oracle);
	text_add(reply, "{\"protected\":%u,\"private\":%llu,\"shared\":%llu,\"book\":[", vm.protected,
		 (unsigned long long)count_of(text, "private_pages: "), (unsigned long long)count_of(text, "shared_pages: "));
	for (uint64_t i = 0; i < vm.shared; i++)
		text_add(reply, "%s[%llu,%llu]", i ? "," : "", (unsigned long long)shared[i].gfn,
			 (unsigned long long)shared[i].pages);
	text_add(reply, "]}");
}

/* The frame of each page of the arena, 0 where there is none: to be looked for in page tables from outside. */
void do_frames(int argc, char **args, struct text *reply)
{
	(void)argc;
	(void)args;
	text_add(reply, "[");
	for (unsigned int i = 0; i < ARENA_PAGES; i++)
		text_add(reply, "%s%llu", i ? "," : "", (unsigned long long)frame_of(arena + i * PAGE));
	text_add(reply, "]");
}
