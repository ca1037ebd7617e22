#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: volatility3 2.28.2 (PyPI), against drgn 0.3.0.
# Guess: of a core's segment that is saved in part (p_filesz less than p_memsz, as the ELF specification allows) the
#        saved bytes can be read, and the rest is invalid.
# Seen: Elf64Layer leaves the whole segment out: its saved page is as invalid as the other. drgn reads the first and
#       raises for the second. volatility3 says nothing.
# Matters: makedumpfile -E ends a segment with each run of 256 pages or more that it excludes, and does not save those:
#          nearly all of such a dump is left out. A plugin or a scan for a secret finds nothing in memory that is there.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check volatility3==2.28.2 drgn==0.3.0

cat > probe.py <<'END'
import struct

import drgn
from volatility3.framework import contexts
from volatility3.framework.layers import elf, physical

# address, bytes in the file, bytes in memory
SEGMENTS = ((0x1000, 4096, 8192), (0x10000, 4096, 4096))
core = b"\x7fELF\x02\x01\x01" + bytes(9)
core += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(SEGMENTS), 0, 0, 0)
for number, (address, saved, size) in enumerate(SEGMENTS):
    core += struct.pack("<IIQQQQQQ", 1, 7, 4096 * (number + 1), address, address, saved, size, 4096)
core = core.ljust(4096, b"\0") + b"A" * 4096 + b"B" * 4096
with open("core", "wb") as file:
    file.write(core)

program = drgn.Program()
program.set_core_dump("core")
context = contexts.Context()
context.add_layer(physical.BufferDataLayer(context, "config", "base", buffer=core))
layer = elf.Elf64Stacker.stack(context, "base")
for address in (0x1000, 0x2000, 0x10000):
    try:
        seen = program.read(address, 4, True)
    except drgn.FaultError:
        seen = "not saved"
    print(f"{address:#x}: drgn {seen}, volatility3 {layer.read(address, 4) if layer.is_valid(address) else 'invalid'}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
0x1000: drgn b'AAAA', volatility3 invalid
0x2000: drgn not saved, volatility3 invalid
0x10000: drgn b'BBBB', volatility3 b'BBBB'
END
if ! diff -u noted seen; then
    echo 'CHANGED: volatility3 or drgn reads partly saved segments in another way' >&2
    exit 1
fi
cat seen
