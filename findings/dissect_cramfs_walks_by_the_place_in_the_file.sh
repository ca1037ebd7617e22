#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.cramfs 1.1 (PyPI), on an image that mkfs.cramfs of util-linux 2.38.1 (Debian 12) makes.
# Guess: iterdir() of a directory gives each of its entries once, whatever one does with them meanwhile, as the parsers
#        for other file systems of this family do.
# Seen: the next entry is looked for wherever the image's file object stands. Only who asks each entry for its name, and
#       for nothing that reads more, has all entries. Who only collects them has the first one over and over: list() of
#       it never ends. Who reads a file inside the loop has bytes of file data as the next entry.
# Matters: whoever walks a firmware or guest image: hash each file, or sort them. get() and listdir() are right; take
#          the entries from listdir().
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download util-linux=2.38.1-5+deb12u3
dpkg -x ./*.deb root
mkdir tree
for name in one two three; do echo "content of $name" > "tree/$name"; done
chmod 644 tree/*
root/sbin/mkfs.cramfs tree image > out

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.cramfs==1.1

cat > probe.py <<'END'
from itertools import islice

from dissect.cramfs import CramFS

with open("image", "rb") as file:
    root = CramFS(file).root
    print("names in a loop:", [entry.name for entry in root.iterdir()])
    print("collected first:", [entry.name for entry in list(islice(root.iterdir(), 3))])
    names = []
    for entry in islice(root.iterdir(), 2):
        names.append(entry.name if entry.mode == 0o100644 else "no entry")
        if len(names) == 1:
            entry.open().read()
    print("one was read:", names)
    print("of listdir():", {name: entry.open().read().decode() for name, entry in root.listdir().items()})
END
venv/bin/python probe.py > seen

cat > noted <<'END'
names in a loop: ['one', 'three', 'two']
collected first: ['one', 'one', 'one']
one was read: ['one', 'no entry']
of listdir(): {'one': 'content of one\n', 'three': 'content of three\n', 'two': 'content of two\n'}
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.cramfs walks directories in another way' >&2
    exit 1
fi
cat seen
