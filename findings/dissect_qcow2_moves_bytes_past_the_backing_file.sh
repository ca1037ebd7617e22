#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.hypervisor 3.21 (PyPI).
# Guess: where a qcow2 image is larger than its backing file, what neither has written is zeros, as QEMU's
#        qcow2 specification says ("smaller than the image": zeros for all that is not covered).
# Seen: those zeros are left out. What the image holds behind the gap is read at the place where the backing file
#       ends, and the read is short. In reads of one cluster the gap's read is empty, which looks like the disk's end.
#       qemu-img 7.2 reads A 0 C 0 of the same two files.
# Matters: a cloud image with a larger overlay is the usual guest's disk: the guest's file system grows into the part
#          that is then read at wrong places.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.hypervisor==3.21

cat > probe.py <<'END'
import io
import struct

from dissect.hypervisor.disk.qcow2 import QCow2

CLUSTER = 65536
NORMAL = 1 << 63
backing = b"A" * CLUSTER
name = b"base.raw"
header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 112, len(name), 16, 4 * CLUSTER, 0, 1, 3 * CLUSTER,
                     CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104) + bytes(8) + name
tables = (header, struct.pack(">Q", 2 * CLUSTER), struct.pack(">6H", *[1] * 6),
          struct.pack(">Q", NORMAL | 4 * CLUSTER), struct.pack(">4Q", 0, 0, NORMAL | 5 * CLUSTER, 0))
image = b"".join(table.ljust(CLUSTER, b"\0") for table in tables) + b"C" * CLUSTER

disk = QCow2(io.BytesIO(image), backing_file=io.BytesIO(backing))
stream = disk.open()
print("size:", disk.size // CLUSTER, "clusters")
data = stream.read(disk.size)
print("at once:", " ".join(chr(data[place]) for place in range(0, len(data), CLUSTER)))
for number in range(4):
    stream.seek(number * CLUSTER)
    data = stream.read(CLUSTER)
    print(f"cluster {number}: {len(data)} bytes", data[:1])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
size: 4 clusters
at once: A C
cluster 0: 65536 bytes b'A'
cluster 1: 0 bytes b''
cluster 2: 65536 bytes b'C'
cluster 3: 0 bytes b''
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.hypervisor reads behind a backing file in another way' >&2
    exit 1
fi
cat seen
