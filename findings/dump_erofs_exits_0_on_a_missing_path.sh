#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: erofs-utils 1.5-1 (Debian 12).
# Guess: dump.erofs --path=FILE fails when the image has no such file, as mkfs.erofs does for a missing source.
# Seen: it prints "read inode failed" on stderr and exits with 0, for a path and for an inode number alike. On
#       stdout there is nothing.
# Matters: an image build that asks dump.erofs whether the init program or a module is in it: the check cannot
#          fail. Look for the line "File :".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download erofs-utils=1.5-1 liblz4-1=1.9.4-1
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"

mkdir source
echo x > source/init
root/usr/bin/mkfs.erofs image source > /dev/null 2>&1
for path in /init /sbin/init; do
    status=0
    root/usr/bin/dump.erofs "--path=$path" image > out 2> errors || status=$?
    echo "$path: exit status $status, $(wc -l < out) lines, $(grep -c 'read inode failed' errors) errors"
done > seen

cat > noted <<'END'
/init: exit status 0, 6 lines, 0 errors
/sbin/init: exit status 0, 0 lines, 1 errors
END
if ! diff -u noted seen; then
    echo 'CHANGED: dump.erofs treats a missing path in another way' >&2
    exit 1
fi
cat seen
