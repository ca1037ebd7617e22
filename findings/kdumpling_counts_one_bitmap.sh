#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: kdumpling 0.4.0 (PyPI), read by drgn 0.3.0, which brings libkdumpfile.
# Guess: what it writes as "kdump compressed format (makedumpfile compatible)" is read by what reads makedumpfile's
#        dumps, as its ELF cores are.
# Seen: no page can be read. The header's bitmap_blocks has the size of one bitmap; makedumpfile writes that of both,
#       and readers find the page descriptors behind. With the field doubled all pages are there, but the descriptors
#       are in the order of add_memory_segment(), not of addresses: two segments added from high to low are swapped.
# Matters: tests of dump tools on made dumps. Write ELF, or add segments in ascending order and set the field.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check kdumpling==0.4.0 drgn==0.3.0

cat > probe.py <<'END'
import struct

import drgn
from kdumpling import KdumpBuilder, OutputFormat

BITMAP_BLOCKS = 436  # offset in the header, struct disk_dump_header of 64 bits
LOW, HIGH = 0x100000, 0x200000


def write(order, kind):
    builder = KdumpBuilder()
    builder.set_vmcoreinfo(
        "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82a00000\nSYMBOL(_stext)=ffffffff81000000\n")
    for address in order:
        builder.add_memory_segment(address, (b"low " if address == LOW else b"high") * 1024)
    builder.write("core", format=kind)


def show(what):
    program = drgn.Program()
    program.set_core_dump("core")
    seen = []
    for address in (LOW, HIGH):
        try:
            seen.append(program.read(address, 4, True).decode())
        except drgn.FaultError:
            seen.append("no page")
    print(f"{what}: {seen}")


for order in ((LOW, HIGH), (HIGH, LOW)):
    name = " ".join(map(hex, order))
    write(order, OutputFormat.ELF)
    show(f"{name}, ELF")
    write(order, OutputFormat.KDUMP_COMPRESSED)
    show(f"{name}, compressed")
    with open("core", "r+b") as file:
        file.seek(BITMAP_BLOCKS)
        blocks = struct.unpack("<I", file.read(4))[0]
        file.seek(BITMAP_BLOCKS)
        file.write(struct.pack("<I", 2 * blocks))
    show(f"{name}, compressed, {blocks} bitmap block made {2 * blocks}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
0x100000 0x200000, ELF: ['low ', 'high']
0x100000 0x200000, compressed: ['no page', 'no page']
0x100000 0x200000, compressed, 1 bitmap block made 2: ['low ', 'high']
0x200000 0x100000, ELF: ['low ', 'high']
0x200000 0x100000, compressed: ['no page', 'no page']
0x200000 0x100000, compressed, 1 bitmap block made 2: ['high', 'low ']
END
if ! diff -u noted seen; then
    echo 'CHANGED: kdumpling writes, or drgn reads, compressed dumps in another way' >&2
    exit 1
fi
cat seen
