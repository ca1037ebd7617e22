#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: ext4 1.4.1 (PyPI), on images of e2fsprogs 1.47.0 (Debian 12).
# Guess: a reader of ext4 reads ext4 files that are mapped by blocks too, as each file system that was once ext3
#        has them, or says that it does not.
# Seen: an ext4 image made with -O ^extents opens, and its root directory is empty; a path in it is not found.
#       There is no error.
# Matters: a check of a root file system image for what must not be in it: it passes on an image that it has not
#          read.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ext4==1.4.1
version=1.47.0-2+b2
packages=(e2fsprogs="$version" libext2fs2="$version" libss2="$version" libcom-err2="$version")
apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}"
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/lib/x86_64-linux-gnu:$dir/root/usr/lib/x86_64-linux-gnu"

mkdir source
echo x > source/init
root/sbin/mke2fs -q -t ext4 -d source extents.img 4M 2> /dev/null
root/sbin/mke2fs -q -t ext4 -O ^extents,^64bit -d source blocks.img 4M 2> /dev/null
cat > probe.py <<'END'
import ext4

for name in ("extents.img", "blocks.img"):
    with open(name, "rb") as file:
        print(name, sorted(entry.name_str for entry, _ in ext4.Volume(file).root.opendir()))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
extents.img ['.', '..', 'init', 'lost+found']
blocks.img []
END
if ! diff -u noted seen; then
    echo 'CHANGED: ext4 reads files without extents in another way' >&2
    exit 1
fi
cat seen
