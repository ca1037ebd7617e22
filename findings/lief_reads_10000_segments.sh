#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: lief 1.0.0 (PyPI), against pyelftools 0.33.
# Guess: an ELF core with 20000 program headers is read whole, as readelf does, or refused.
# Seen: the header's number is 20000, the list of segments ends after 10000. There is no exception, and nothing
#       in the binary says that it is cut.
# Matters: vmcores of fragmented machines and cores of processes with many mappings: memory that was dumped looks
#          as if it had not been. A search for a secret over the segments finds nothing in the rest.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check lief==1.0.0 pyelftools==0.33

cat > probe.py <<'END'
import struct

import lief
from elftools.elf.elffile import ELFFile

SEGMENTS = 20000
header = b"\x7fELF\x02\x01\x01" + bytes(9)
header += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, SEGMENTS, 0, 0, 0)
with open("core", "wb") as file:
    file.write(header)
    for number in range(SEGMENTS):  # PT_LOAD, a page each, not saved in the file
        file.write(struct.pack("<IIQQQQQQ", 1, 4, 0, 0x10000 + 4096 * number, 0, 0, 4096, 4096))
with open("core", "rb") as file:
    print("pyelftools:", sum(1 for _ in ELFFile(file).iter_segments()))
core = lief.parse("core")
print("lief:", core.header.numberof_segments, "in the header,", len(core.segments), "read")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
pyelftools: 20000
lief: 20000 in the header, 10000 read
END
if ! diff -u noted seen; then
    echo 'CHANGED: lief reads another number of segments' >&2
    exit 1
fi
cat seen
