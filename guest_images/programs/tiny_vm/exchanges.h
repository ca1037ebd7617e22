/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_EXCHANGES_H
#define TINY_VM_EXCHANGES_H

#include "vmm.h"

#define UPCALL_VECTOR 0x80	/* of the system calls of 32-bit programs */

/* Takes Xen's upcall, which comes again as long as the VMM's memory says so: the first one is enough. */
extern const unsigned char upcall_entry[];

extern const struct row exchanges_rows[];

#endif
