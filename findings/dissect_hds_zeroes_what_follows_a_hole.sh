#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.hypervisor 3.21 (PyPI), which is imported with defusedxml 0.7.1.
# Guess: what is read of a Parallels image is what the disk has, whatever the size of the reads.
# Seen: a hole that a read begins with counts as a run at place 0 of the file. A block that lies as far behind the
#       file's start as that hole is long is taken for more of the hole: it is read as zeros, with no error. A read of
#       one block has the data.
# Matters: data begins behind the header and its table, so at 1 MiB with the usual blocks of 1 MiB, and the first block
#          that is written is rarely the disk's first: of such a disk the block that was written first is lost.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.hypervisor==3.21 defusedxml==0.7.1

cat > probe.py <<'END'
import io
import struct

from dissect.hypervisor.disk.hdd import HDS

BLOCK = 1 << 20
SECTORS = BLOCK // 512


def image(table):
    """An image of version 2: entry n says where block n of the disk is in the file, in blocks; 0 is a hole."""
    header = struct.pack("<16sIIIIIQIII", b"WithouFreSpacExt", 2, 16, 1, SECTORS, len(table), len(table) * SECTORS, 0,
                         SECTORS, 0).ljust(64, b"\0")
    data = (header + struct.pack(f"<{len(table)}I", *table)).ljust(BLOCK, b"\0")
    return data + b"".join(bytes([ord("A") + number]) * BLOCK for number in range(max(table)))


def read(data, size):
    stream = HDS(io.BytesIO(data))
    content = b"".join(iter(lambda: stream.read(size), b""))
    assert len(content) == stream.size
    return " ".join(chr(content[start] or ord("0")) for start in range(0, len(content), BLOCK))


for table in ((1, 2, 0, 3), (0, 1, 2, 3), (0, 0, 2, 1)):
    print("blocks at", *table)
    for count in (1, 4):
        print(f"  {count} MiB at a time:", read(image(table), count * BLOCK))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
blocks at 1 2 0 3
  1 MiB at a time: A B 0 C
  4 MiB at a time: A B 0 C
blocks at 0 1 2 3
  1 MiB at a time: 0 A B C
  4 MiB at a time: 0 0 0 0
blocks at 0 0 2 1
  1 MiB at a time: 0 0 B A
  4 MiB at a time: 0 0 0 A
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.hypervisor reads Parallels images in another way' >&2
    exit 1
fi
cat seen
