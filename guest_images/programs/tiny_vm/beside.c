// SPDX-License-Identifier: GPL-2.0-or-later
/* A second processor of the guest is at work all along while the first one shares pages and takes them back. */
#define _GNU_SOURCE
#include <fcntl.h>

#include "beside.h"
#include "ranges.h"
#include "refusals.h"
#include "reset.h"
#include "second.h"
#include "shutdown.h"
#include "waits.h"

#define ROUNDS 16u	/* the second processor may leave the guest by itself at the moment that counts */

/* What the host side is asked. */
enum { RUN_BESIDE = 0xf000, HOLD_PAGE, LOOK_AT_HELD };

/*
 * A pipe of the VMM's holds a page that is taken back. Who still has the page mapped as it was stores into what the VMM
 * reads: the second processor does nothing but to store, and does not leave the guest for that.
 */
static GUEST void second_stores_into_no_old_page(void)
{
	volatile uint32_t *const stored = (uint32_t *)(uint64_t)STORED_AT;
	uint64_t late_stores = 0, failed = 0;

	start_second_at(storing_code, storing_end);
	service(RUN_BESIDE);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		failed |= change(HC_SHARE, STORED_AT, 1);
		*stored = 0;
		while (*stored != SECRET_WORD)
			asm volatile("pause");
		service(HOLD_PAGE);
		failed |= change(HC_UNSHARE, STORED_AT, 1);
		*stored = 0;
		while (*stored != SECRET_WORD)
			asm volatile("pause");
		late_stores += service(LOOK_AT_HELD);
	}
	tell("requests that fail", 0, failed);
	tell("times that the VMM has what the second processor stores into a page that was taken back",
	     way == PLAIN ? ROUNDS : 0, late_stores);
}

static uint64_t serve_beside(struct vm *vm, uint32_t what)
{
	static int ends[2];
	static uint32_t words[PAGE / sizeof(uint32_t)];
	struct iovec page = { at(vm, (void *)(uintptr_t)STORED_AT), PAGE };

	switch (what) {
	case RUN_BESIDE:
		if (pipe2(ends, O_CLOEXEC))
			cannot("have a pipe");
		start_beside(run_along, vm);
		return 0;
	case HOLD_PAGE:
		if (vmsplice(ends[1], &page, 1, 0) != (ssize_t)PAGE)
			cannot("have a pipe hold a page");
		return 0;
	default:
		if (read(ends[0], words, sizeof(words)) != sizeof(words))
			cannot("read a page from the pipe");
		return words[0] == SECRET_WORD;
	}
}

const struct row beside_rows[] = {
	{ "second-stores", second_stores_into_no_old_page, .operands = NULL, .serve = serve_beside, .second = true },
	{ .name = NULL },
};
