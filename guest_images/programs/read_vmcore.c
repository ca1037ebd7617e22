// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * read_vmcore - prints pages of the kernel that crashed, as the only process of the kernel that took over
 *
 * usage: read_vmcore ADDRESS ..      physical addresses of that kernel's memory, in hexadecimal
 *
 * A line "vmcore ADDRESS HEX" a page on the console, with its 4096 bytes, or "vmcore ADDRESS not there"; and then
 * "vmcore done". /proc/vmcore is an ELF core file: Documentation/admin-guide/kdump/kdump.rst. The kernel keeps silent
 * meanwhile: what it logs would get into the middle of a line, as a console's driver does not wait for the terminal's.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>

#include "lib/check.h"

#define PAGE 4096
#define HEADERS 65536
#define SET_CONSOLE_LEVEL 8 /* SYSLOG_ACTION_CONSOLE_LEVEL of linux/syslog.h */
#define EMERGENCIES_ONLY 1

static unsigned char headers[HEADERS];

/* Where a physical address is in the file; -1: nowhere. */
static off_t find(uint64_t address, size_t size)
{
	const Elf64_Ehdr *elf = (const Elf64_Ehdr *)headers;

	for (size_t i = 0; i < elf->e_phnum; i++) {
		size_t at = elf->e_phoff + i * sizeof(Elf64_Phdr);
		const Elf64_Phdr *part = (const Elf64_Phdr *)(headers + at);

		if (at + sizeof(*part) > size)
			break;
		if (part->p_type == PT_LOAD && address >= part->p_paddr && address - part->p_paddr + PAGE <= part->p_memsz)
			return (off_t)(part->p_offset + address - part->p_paddr);
	}
	return -1;
}

int main(int argc, char **argv)
{
	unsigned char page[PAGE];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (klogctl(SET_CONSOLE_LEVEL, NULL, EMERGENCIES_ONLY))
		cannot("silence the kernel on the console");
	mount("proc", "/proc", "proc", 0, NULL);
	int file = open("/proc/vmcore", O_RDONLY | O_CLOEXEC);

	if (file < 0)
		cannot("open /proc/vmcore");
	ssize_t size = pread(file, headers, sizeof(headers), 0);

	if (size < (ssize_t)sizeof(Elf64_Ehdr) || memcmp(headers, ELFMAG, SELFMAG))
		cannot("read the ELF header");
	for (int i = 1; i < argc; i++) {
		struct text t = { 0 };
		off_t at = find(strtoull(argv[i], NULL, 16), (size_t)size);

		text_add(&t, "vmcore %s ", argv[i]);
		if (at < 0 || pread(file, page, PAGE, at) != PAGE)
			text_add(&t, "not there");
		else
			text_add_hex(&t, page, PAGE);
		print_line(&t);
		free(t.data);
	}
	puts("vmcore done");
	if (getpid() == 1)
		reboot(RB_AUTOBOOT);
	return 0;
}
