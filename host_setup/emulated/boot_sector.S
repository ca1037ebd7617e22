/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The boot sector of a PC whose memory already holds all that it is to boot
 * (direct_boot.py): it asks the BIOS for the memory map, and goes to the kernel's
 * 32-bit entry (Linux: Documentation/arch/x86/boot.rst, "32-bit Boot Protocol").
 */
#define PARAMETERS 0x9000	/* struct boot_params */
#define MAP_ENTRIES (PARAMETERS + 0x1e8)
#define MAP (PARAMETERS + 0x2d0)
#define KERNEL 0x100000

	.code16
	.globl _start
_start:	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	mov $MAP, %di
	xor %ebx, %ebx
	xor %bp, %bp
1:	mov $0xe820, %eax
	mov $20, %ecx
	mov $0x534d4150, %edx		/* "SMAP" */
	int $0x15
	jc 2f
	add $20, %di
	inc %bp
	test %ebx, %ebx
	jnz 1b
2:	mov %bp, %ax
	movb %al, MAP_ENTRIES
	in $0x92, %al			/* A20 */
	or $2, %al
	out %al, $0x92
	lgdt gdtr
	mov %cr0, %eax
	or $1, %eax
	mov %eax, %cr0
	ljmp $0x10, $flat
	.code32
flat:	mov $0x18, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $PARAMETERS, %esi
	xor %ebp, %ebp
	xor %edi, %edi
	xor %ebx, %ebx
	mov $KERNEL, %eax
	jmp *%eax
	.balign 8
gdt:	.quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 31
	.long gdt
	.org 510
	.word 0xaa55
