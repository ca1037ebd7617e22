#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: keystone-engine 0.9.2 (PyPI), against iced-x86 1.21.0.
# Guess: what keystone assembles, in 64-bit mode and Intel syntax, does what the source says; what cannot be encoded
#        raises KsError.
# Seen: "push 0xff80" to "push 0xffff" push -128 to -1, though the numbers below and above are right. A number too
#       large for PUSH is cut to 16 bits and pushed as 2 bytes. "mov rbx, [0x1000]" is relative to RIP, so that it reads
#       0x1007 at address 0; the same into RAX, or of a high address, is absolute.
# Matters: code that tests assemble for a guest or an emulator: it reads another address and moves the stack by
#          another number of bytes. Disassemble what comes out.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check keystone-engine==0.9.2 iced-x86==1.21.0

cat > probe.py <<'END'
import iced_x86
import keystone

assembler = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
SOURCES = ("push 0xff7f", "push 0xff80", "push 0xffff", "push 0x10000", "push 0x80000000",
           "mov rax, [0x1000]", "mov rbx, [0x1000]", "mov rbx, [0xffffffff81000000]")
for source in SOURCES:
    code = bytes(assembler.asm(source, 0)[0])
    print(f"{source}: {code.hex()}, {iced_x86.Decoder(64, code).decode()}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
push 0xff7f: 687fff0000, push 0FF7Fh
push 0xff80: 6a80, push 0FFFFFFFFFFFFFF80h
push 0xffff: 6aff, push 0FFFFFFFFFFFFFFFFh
push 0x10000: 6800000100, push 10000h
push 0x80000000: 66680000, pushw 0
mov rax, [0x1000]: 48a10010000000000000, mov rax,[1000h]
mov rbx, [0x1000]: 488b1d00100000, mov rbx,[1007h]
mov rbx, [0xffffffff81000000]: 488b1c2500000081, mov rbx,[0FFFFFFFF81000000h]
END
if ! diff -u noted seen; then
    echo 'CHANGED: keystone or iced-x86 encodes these in another way' >&2
    exit 1
fi
cat seen
