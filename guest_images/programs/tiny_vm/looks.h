/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TINY_VM_LOOKS_H
#define TINY_VM_LOOKS_H

#include "vmm.h"

void take_fault_of_ours(int number);
/* False: the processor of the host faults there. */
bool load_word(const void *from, uint64_t *word);
void count_reached(const unsigned char *page, unsigned int pages, unsigned int *loaded, unsigned int *written);
uint64_t memory_kib(const char *name);
void report_text(struct text *line, const char *name, const char *expected, const char *got);
void look(struct text *line, const struct vm *vm, const char *when);
void report_hex(struct text *line, const char *name, uint64_t expected, uint64_t got);
void report_all(struct text *line, const struct vm *vm);

#endif
