#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: romfs 0.0.7 (PyPI), against genromfs 0.5.2-4+b1 (Debian 12).
# Guess: "romfs pack" makes the image that genromfs makes, as its description says ("interchangeable"); what it cannot
#        store it refuses.
# Seen: directories, the root too, lack the format's executable bit. The kernel makes such a directory mode 0644: only
#       root can enter it. A device and a FIFO are left out with no word. "romfs unpack" of genromfs's image leaves them
#       out as well, and makes a program mode 0644.
# Matters: root file systems of small guests: a service of another user cannot open anything, /dev/console is
#          missing, and an unpacked init cannot be executed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check romfs==0.0.7
apt-get -qq -o APT::Sandbox::User=root download genromfs=0.5.2-4+b1
dpkg -x ./genromfs_*.deb root

mkdir -p source/bin
printf '#!/bin/sh\n' > source/bin/init
chmod 755 source/bin/init
mkfifo source/fifo
root/usr/bin/genromfs -f genromfs.img -d source -V test
venv/bin/romfs pack --out romfs.img source > /dev/null
venv/bin/romfs unpack --outdir unpacked genromfs.img > /dev/null
cat > probe.py <<'END'
import struct
import sys

KINDS = ("hard link", "directory", "file", "symbolic link", "block device", "character device", "socket", "fifo")


def walk(image, offset, path):
    """Print the entries of a directory; numbers are big-endian, the low 4 bits of "following" are kind and mode."""
    while offset:
        following, special = struct.unpack_from(">II", image, offset)
        name = image[offset + 16:image.index(b"\0", offset + 16)].decode()
        kind = KINDS[following & 7]
        if kind != "hard link":
            print(f"{sys.argv[1]}: {path + name.strip('.') or '/'} {kind}{', executable' if following & 8 else ''}")
        if kind == "directory" and special != offset:
            walk(image, special, path + name + "/")
        offset = following & ~15


with open(sys.argv[1], "rb") as file:
    data = file.read()
walk(data, (data.index(b"\0", 16) + 16) & ~15, "")
END
{
    for image in genromfs.img romfs.img; do venv/bin/python probe.py "$image"; done
    (cd unpacked && find . -mindepth 1 -printf 'unpacked: %P %m\n' | sort)
} > seen

cat > noted <<'END'
genromfs.img: / directory, executable
genromfs.img: fifo fifo
genromfs.img: bin directory, executable
genromfs.img: bin/init file, executable
romfs.img: / directory
romfs.img: /bin directory
romfs.img: /bin/init file, executable
unpacked: bin 755
unpacked: bin/init 644
END
if ! diff -u noted seen; then
    echo 'CHANGED: romfs packs or unpacks in another way' >&2
    exit 1
fi
cat seen
