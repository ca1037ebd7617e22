/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_WAITS_H
#define TINY_VM_WAITS_H

#include "vmm.h"

#define COMES_NS 300000000	/* for a request, or a reset, to come to where it waits */

/* A page of the VMM's that is missing: whoever asks for it waits. */
struct kept_back {
	int userfault;
	unsigned char *page;
};

struct meanwhile {
	struct kept_back first, last;
	pthread_t second;
	volatile bool over;	/* what waits has come to its end */
	volatile bool began, ran, stops;	/* the second processor */
	volatile bool third_ran;
	volatile bool waited;
	uint32_t word;	/* that the VMM has got */
};

extern struct meanwhile meanwhile;
pthread_t start_beside(void *(*run)(void *), struct vm *vm);
void await_flag(const volatile bool *what);
void wait_ns(long ns);
void *run_third_beside(void *of);

extern const struct row waits_rows[];

#endif
