#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.hypervisor 3.21 (PyPI).
# Guess: what is read of a VDI image is the same, whether one read() asks for a block or for several.
# Seen: only the first block's place is looked up. What lies behind it in the file is taken for the next blocks, up to
#       the file's end, where the read is short; and if the first block was never written, zeros are taken for all.
#       There is no error. qemu-img 7.2 reads of the same image what reads of one block give.
# Matters: VDI files have blocks in the order of their first write, so a disk in use is the common case. Whether a
#          comparison or a search is right depends on the size of its reads.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.hypervisor==3.21

cat > probe.py <<'END'
import io
import struct

from dissect.hypervisor.disk.vdi import VDI

BLOCK = 1 << 20
FREE = 0xFFFFFFFF
places = (1, 0, FREE, 2, FREE)  # in the file, of the disk's blocks A, B, an unwritten one, D, and an unwritten one
header = struct.pack("<64sIIIII256sIIIIIIIQIIII", b"<<< Oracle VM VirtualBox Disk Image >>>\n", 0xBEDA107F, 0x10001,
                     400, 1, 0, b"", 512, 1024, 0, 0, 0, 512, 0, len(places) * BLOCK, BLOCK, 0, len(places), 3)
image = header.ljust(512, b"\0") + struct.pack(f"<{len(places)}I", *places).ljust(512, b"\0")
image += b"B" * BLOCK + b"A" * BLOCK + b"D" * BLOCK


def read(size):
    stream = VDI(io.BytesIO(image)).open()
    data = b"".join(iter(lambda: stream.read(size), b""))
    blocks = [data[start:start + BLOCK] for start in range(0, len(data), BLOCK)]
    return " ".join(block[:1].decode() if block[0] else "0" for block in blocks)


for count in (1, 2, 5):
    print(f"{count} MiB at a time:", read(count * BLOCK))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
1 MiB at a time: A B 0 D 0
2 MiB at a time: A D 0 0 0
5 MiB at a time: A D
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.hypervisor reads VDI images in another way' >&2
    exit 1
fi
cat seen
