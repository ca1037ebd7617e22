#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: Bochs 2.7+dfsg-4+deb12u1 (Debian 12).
# Guess: optramimage1 puts a file into the machine's memory, from the address on that the option names.
# Seen: only the first 128 KiB are there. Bochs has the machine's memory in blocks of that size, which lie in its own
#       memory in the order of their first use, and reads the whole file to where the first block lies. Of a file with
#       an A and a B at the begin of two such blocks the boot sector finds the A at the address, and no B 128 KiB above.
# Matters: whoever starts a machine with an image in its memory, an initramfs for instance.
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
	lgdt gdtr
	mov $0x11, %eax			/* CR0: PE */
	mov %eax, %cr0
	ljmp $0x08, $flat
	.code32
flat:	mov $0x10, %eax
	mov %eax, %ds
	mov $0x1000000, %ebx
	call say
	mov $0x1020000, %ebx
	call say
	mov $'\n', %al
	out %al, %dx
	mov $0x8900, %dx		/* the machine ends */
	mov $name, %esi
	mov $8, %ecx
	rep outsb
1:	hlt
	jmp 1b
say:	mov (%ebx), %al
	cmp $'A', %al
	je 2f
	cmp $'B', %al
	je 2f
	mov $'.', %al
2:	mov $0xe9, %dx
	out %al, %dx
	ret
name:	.ascii "Shutdown"
	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 23
	.long gdt
	.org 510
	.word 0xaa55
END
as --32 -o sector.o sector.s
ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o disk sector.o 2> /dev/null
truncate -s $((10 * 16 * 63 * 512)) disk
for sign in A B; do printf %s "$sign" | dd bs=128K conv=sync status=none; done > image

cat > bochsrc <<END
display_library: term
memory: guest=32, host=32
romimage: file=root/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=root/usr/share/vgabios/vgabios.bin
optramimage1: file=image, address=0x1000000
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
{ tr -d '\r' < screen | grep -axE '[AB.]+' || true; } > seen

cat > noted <<'END'
A.
END
if ! diff -u noted seen; then
    echo 'CHANGED: Bochs puts another part of a file into memory' >&2
    exit 1
fi
cat seen
