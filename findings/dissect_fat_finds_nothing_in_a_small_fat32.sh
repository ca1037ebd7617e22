#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.fat 3.13 (PyPI) and mtools 4.0.32 (Debian 12), against libfsfat-python 20260826 and fsck.fat 4.2, on
#       volumes of mkfs.fat 4.2 -F 32.
# Guess: a FAT32 volume of 32 MiB is FAT32 to them: mkfs.fat only warns, and Linux and EDK2 go by the FAT's length of 16
#        bits, which is 0.
# Seen: both count clusters, as Microsoft's document says, and take less than 65525 for FAT16. dissect.fat has an empty
#       root directory then, with no error; mtools cannot initialize the drive. libfsfat and fsck.fat see the file. 40
#       MiB are read by all.
# Matters: EFI system partitions of VM images are often FAT32 of about 32 MiB: firmware boots what an inventory of the
#          image does not find. Make it larger, or leave -F 32 out.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download dosfstools=4.2-1 mtools=4.0.33-1+really4.0.32-1
for package in ./*.deb; do dpkg -x "$package" root; done
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.fat==3.13 libfsfat-python==20260826

cat > probe.py <<'END'
import struct
import sys

import pyfsfat
from dissect.fat.fat import FATFS

CONTENT = b"console=ttyS0\n"
path = sys.argv[1]
with open(path, "r+b") as file:  # a file in the cluster behind the root directory's
    sector = file.read(512)
    size, per_cluster, reserved, fats = struct.unpack_from("<HBHB", sector, 11)
    length = struct.unpack_from("<I", sector, 36)[0]
    for number in range(fats):
        file.seek((reserved + number * length) * size + 3 * 4)
        file.write(struct.pack("<I", 0x0FFFFFFF))
    root = (reserved + fats * length) * size
    file.seek(root + 32)  # behind the label
    file.write(struct.pack("<11sB8xHHHHI", b"CMDLINE TXT", 0x20, 0, 0, 0x5A21, 3, len(CONTENT)))
    file.seek(root + per_cluster * size)
    file.write(CONTENT)
    free = struct.unpack_from("<H", sector, 48)[0] * size + 488  # in FSInfo
    file.seek(free)
    count = struct.unpack("<I", file.read(4))[0]
    file.seek(free)
    file.write(struct.pack("<I", count - 1))

volume = pyfsfat.volume()
volume.open(path)
print("  libfsfat:", [entry.name for entry in volume.get_root_directory().sub_file_entries])
with open(path, "rb") as file:
    volume = FATFS(file)
    print("  dissect.fat:", volume.type.name, [entry.name for entry in volume.root.iterdir()])
END

for size in 32 40; do
    echo "$size MiB"
    root/sbin/mkfs.fat -C -F 32 -s 1 -n ESP "$size" $((size * 1024)) > out 2>&1
    venv/bin/python probe.py "$size"
    root/sbin/fsck.fat -n "$size" 2> out | grep --only-matching '[0-9]* files' | sed 's/^/  fsck.fat: clean, /'
    root/usr/bin/mdir -b -i "$size" > out 2>&1 || true
    sed 's/^/  mdir: /' out
done > seen

cat > noted <<'END'
32 MiB
  libfsfat: ['CMDLINE.TXT']
  dissect.fat: FAT16 []
  fsck.fat: clean, 2 files
  mdir: Error reading FAT
  mdir: Cannot initialize '::'
40 MiB
  libfsfat: ['CMDLINE.TXT']
  dissect.fat: FAT32 ['ESP', 'CMDLINE.TXT']
  fsck.fat: clean, 2 files
  mdir: ::/CMDLINE.TXT
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.fat, mtools or libfsfat tells FAT16 and FAT32 apart in another way' >&2
    exit 1
fi
cat seen
