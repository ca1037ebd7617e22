#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.extfs 3.15 (PyPI), on an image of e2fsprogs 1.47.0 (Debian 12).
# Guess: of a file that ext4 keeps in the inode (feature inline_data, which dissect.extfs knows) all bytes are read.
# Seen: a file of 120 bytes is read as its first 60. ext4 has those in the inode's block map, and the rest in the
#       extended attribute system.data, which is not read. The size says 120, and there is no error.
# Matters: image checks and forensics: small files, such as keys and configuration, are compared or searched by half.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.extfs==3.15
version=1.47.0-2+b2
packages=(e2fsprogs="$version" libext2fs2="$version" libss2="$version" libcom-err2="$version")
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/lib/x86_64-linux-gnu:$dir/root/usr/lib/x86_64-linux-gnu"

mkdir source
for size in 40 60 61 120; do printf "%${size}s" x > "source/$size"; done
root/sbin/mke2fs -q -t ext4 -I 256 -O inline_data -d source image 4M > /dev/null 2>&1
cat > probe.py <<'END'
from dissect.extfs import ExtFS

with open("image", "rb") as file:
    image = ExtFS(file)
    for name in ("40", "60", "61", "120"):
        entry = image.get(name)
        print(f"size {entry.size}: {len(entry.open().read())} bytes read")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
size 40: 40 bytes read
size 60: 60 bytes read
size 61: 60 bytes read
size 120: 60 bytes read
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.extfs reads inline data in another way' >&2
    exit 1
fi
cat seen
