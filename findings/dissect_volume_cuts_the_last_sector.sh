#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.volume 3.18 (PyPI), against fdisk 2.38.1 (Debian 12), on a disk of gpt-image 0.9.1.
# Guess: a GPT partition has the sectors from its first to its last LBA, both included, as the UEFI specification says
#        and the comment in dissect.volume, too.
# Seen: the size is last minus first, one sector less, with 512 bytes as with 4096. The last sector of each partition
#       is not in what open() gives. Partitions of an MBR are whole.
# Matters: what is at the end of a partition: md's superblock 1.0 and 0.90, dm-verity data that fills the partition,
#          a hash of the whole partition for a comparison with dd's.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.volume==3.18 gpt-image==0.9.1
version=2.38.1-5+deb12u3
apt-get -qq -o APT::Sandbox::User=root download fdisk="$version" libfdisk1="$version" libsmartcols1="$version"
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/lib/x86_64-linux-gnu:$dir/root/usr/lib/x86_64-linux-gnu"

cat > make.py <<'END'
from gpt_image.disk import Disk
from gpt_image.partition import Partition, PartitionType

disk = Disk("image")
disk.create(16 << 20)
partition = Partition("root", 1 << 20, PartitionType.LINUX_FILE_SYSTEM.value)
disk.table.partitions.add(partition)
disk.commit()
partition.write_data(disk, b"the end.".rjust(1 << 20))
END
cat > probe.py <<'END'
from dissect.volume.disk import Disk

with open("image", "rb") as file:
    partition = Disk(file).partitions[0]
    data = partition.open().read()
    print(f"dissect.volume: {partition.size // 512} sectors, {len(data)} bytes read, ends with {data[-8:]}")
END
venv/bin/python make.py
root/sbin/sfdisk --quiet --list --output Start,End,Sectors image | tail -n 1 \
    | xargs echo 'sfdisk, first, last, sectors:' > seen
venv/bin/python probe.py >> seen

cat > noted <<'END'
sfdisk, first, last, sectors: 40 2087 2048
dissect.volume: 2047 sectors, 1048064 bytes read, ends with b'        '
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.volume gives GPT partitions another size' >&2
    exit 1
fi
cat seen
