/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DRIVEN_VM_PAGE_H
#define DRIVEN_VM_PAGE_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE 4096u
#define MARK 0x5ea00000u	/* what a page's word begins with, and a number */
#define NUMBER 0xfffffu

/* Where a fault of this process goes on, and what it was: "SIGSEGV", "SIGBUS" (BUS_ADRERR), "SIGBUS-other". */
extern sigjmp_buf after_fault;
extern const char *volatile fault_name;
void catch_faults(void);

/* "0" for zeros, else the number of its mark; "other" for anything else. */
const char *page_name(const void *page);
void mark_page(void *page, uint32_t number);
const char *errno_name(int error);

/* What a load of the whole page gets, or which signal the first of its loads met. */
const char *load_result(const void *page);
const char *store_result(void *page, uint32_t number);

/* The page's name, or the errno, of a system call that reads it. */
const char *write_result(const void *page);
const char *process_vm_readv_result(const void *page);
const char *proc_mem_result(const void *page);

/* "none": there is no frame; "kept": the kernel cannot read it. */
const char *direct_map_result(const void *page);

/* Room for a page: what read_frame() has read, and whatever a caller needs between two calls. */
extern unsigned char page_buffer[PAGE];

/* Reads a frame at its place in the kernel's direct map; returns whether the kernel could. */
bool read_frame(uint64_t frame);

/* The frame behind an address of this process, or 0. */
uint64_t frame_of(const void *page);

/* Ends the program if the file cannot be opened. */
int open_path(const char *path, int flags);

#endif
