#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: Bochs 2.7+dfsg-4+deb12u1 (Debian 12).
# Guess: where IA32_FMASK has TF, as every kernel for x86-64 sets it, a SYSCALL that is single-stepped does not trap
#        (target/i386 of QEMU has a comment that says so of processors): the kernel begins with TF clear.
# Seen: TF is clear behind it, and Bochs delivers the trap all the same, with RIP at the kernel's first instruction and
#       DR6.BS set. The boot sector prints T in its handler, E behind SYSCALL, and a dot as TF is clear there.
# Matters: whoever single-steps a system call in a guest of Bochs (ptrace): Linux 6.12 warns in exc_debug_kernel().
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

bochs=2.7+dfsg-4+deb12u1
packages=(bochs="$bochs" bochs-term="$bochs" bochsbios="$bochs" vgabios=0.8a+ds-2)
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in ./*.deb; do dpkg -x "$package" root; done

cat > sector.s <<'END'
	.code16
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	mov $0x1000, %di		/* tables: one page of 2 MiB, one to one; then 16 bytes of a gate */
	mov $0x1000, %cx
	rep stosl
	movw $0x2003, 0x1000
	movw $0x3003, 0x2000
	movw $0x0083, 0x3000
	movw $trap, 0x4010		/* #DB: an interrupt gate */
	movw $0x08, 0x4012
	movw $0x8e00, 0x4014
	mov $0x20, %eax
	mov %eax, %cr4
	mov $0x1000, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx		/* EFER: long mode, SYSCALL */
	mov $0x101, %eax
	xor %edx, %edx
	wrmsr
	lgdt gdtr
	mov $0x80000001, %eax
	mov %eax, %cr0
	ljmp $0x08, $long
	.code64
long:	lidt idtr
	mov $0xc0000081, %ecx		/* STAR: where it comes to, another segment of ring 0 */
	xor %eax, %eax
	mov $0x08, %edx
	wrmsr
	inc %ecx			/* LSTAR */
	mov $entry, %eax
	xor %edx, %edx
	wrmsr
	inc %ecx
	inc %ecx			/* FMASK: TF */
	mov $0x100, %eax
	wrmsr
	pushfq
	orq $0x100, (%rsp)
	popfq
	syscall
entry:	mov $'E', %al			/* trapped, when it got here? */
	call say
	pushfq
	pop %rbx
	mov $'.', %al
	test $0x100, %ebx
	jz 1f
	mov $'t', %al
1:	call say
	mov $'\n', %al
	call say
	mov $0x8900, %dx		/* the machine ends */
	mov $name, %esi
	mov $8, %ecx
	rep outsb
2:	hlt
	jmp 2b
trap:	mov $'?', %al
	cmpq $entry, (%rsp)
	jne 3f
	mov %dr6, %rbx
	bt $14, %ebx
	jnc 3f
	mov $'T', %al
3:	call say
	andq $~0x100, 16(%rsp)
	iretq
say:	mov $0xe9, %dx
	out %al, %dx
	ret
name:	.ascii "Shutdown"
	.balign 8
gdt:	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 23
	.long gdt
idtr:	.word 0x1f
	.quad 0x4000
	.org 510
	.word 0xaa55
END
as -o sector.o sector.s
ld -Ttext 0x7c00 --oformat binary -o disk sector.o 2> /dev/null
truncate -s $((10 * 16 * 63 * 512)) disk

cat > bochsrc <<END
display_library: term
cpu: model=corei7_haswell_4770, count=1
memory: guest=32, host=32
romimage: file=root/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=root/usr/share/vgabios/vgabios.bin
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path=disk, cylinders=10, heads=16, spt=63
boot: disk
port_e9_hack: enabled=1
log: log
END
echo c > commands # Debian's Bochs waits in its debugger
export BXSHARE=$dir/root/usr/share/bochs TERM=linux
LTDL_LIBRARY_PATH=$(echo "$dir"/root/usr/lib/*/bochs/plugins)
export LTDL_LIBRARY_PATH
timeout 60 script -qec "root/usr/bin/bochs-bin -q -f bochsrc -rc commands" /dev/null > screen 2>&1 < /dev/null || true
{ tr -d '\r' < screen | grep -axE '[TE?t.]+' || true; } > seen

cat > noted <<'END'
TE.
END
if ! diff -u noted seen; then
    echo 'CHANGED: Bochs treats a stepped SYSCALL in another way' >&2
    exit 1
fi
cat seen
