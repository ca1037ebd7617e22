#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: gpt-image 0.9.1 (PyPI).
# Guess: Partition(..., partition_attributes=PartitionAttribute.READ_ONLY) sets attribute bit 60, as the docstring says
#        ("flag bit to set"), and as the property attribute_flags of the same object does.
# Seen: the number 60 itself is written: bits 2 to 5 are set, 60 is not. Bit 2 is "legacy BIOS bootable", the others are
#       reserved by the UEFI specification. NO_DRIVE_LETTER, 63, sets 0 to 5: "required partition", too.
# Matters: images whose root partition is to be read-only, which systemd's discoverable partitions go by: it is mounted
#          writable, and firmware may take it for the one to boot. Set the property afterwards.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gpt-image==0.9.1

cat > probe.py <<'END'
import struct

from gpt_image.disk import Disk
from gpt_image.partition import Partition, PartitionAttribute, PartitionType

disk = Disk("image")
disk.create(16 << 20)
ROOT = PartitionType.LINUX_FILE_SYSTEM.value
disk.table.partitions.add(Partition("argument", 1 << 20, ROOT, partition_attributes=PartitionAttribute.READ_ONLY))
later = Partition("property", 1 << 20, ROOT)
later.attribute_flags = PartitionAttribute.READ_ONLY
disk.table.partitions.add(later)
disk.commit()
with open("image", "rb") as file:
    file.seek(2 * 512)
    for number in range(2):
        entry = file.read(128)
        attributes = struct.unpack_from("<Q", entry, 48)[0]
        name = entry[56:].decode("utf-16-le").rstrip("\0")
        print(name, [bit for bit in range(64) if attributes >> bit & 1])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
argument [2, 3, 4, 5]
property [60]
END
if ! diff -u noted seen; then
    echo 'CHANGED: gpt-image sets other attributes' >&2
    exit 1
fi
cat seen
