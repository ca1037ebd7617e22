/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_ROWS_H
#define TINY_VM_ROWS_H

/* The row behind another one, of whatever subject; NULL: the first one. Returns NULL behind the last one. */
const struct row *next_row(const struct row *previous);

#endif
