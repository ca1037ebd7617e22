#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: squashfs-tools 4.5.1 (Debian 12).
# Guess: mksquashfs fails on a file that it cannot read, as tar and cp do, unless told to go on.
# Seen: the image has the file, with its name and mode and no content, and the status is 0. A line on standard error is
#       all; -exit-on-error is what makes it fail. unsquashfs of a path that is not in the image has status 0 as well.
# Matters: images built without root: /etc/shadow, keys and files of other users are there and empty, which only the
#          boot shows.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download squashfs-tools=1:4.5.1-1 liblzo2-2=2.10-2
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/lib/x86_64-linux-gnu:$dir/root/usr/lib/x86_64-linux-gnu"

mkdir source out
echo content | tee source/readable > source/secret
chmod 000 source/secret
chmod 755 . source
as_user=()
if [ "$(id -u)" = 0 ]; then
    chown 65534 out
    as_user=(setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all)
fi
run() {
    local status=0
    "$@" > /dev/null 2>&1 || status=$?
    echo "status $status"
}
{
    run "${as_user[@]}" root/usr/bin/mksquashfs source out/image -quiet -no-progress
    root/usr/bin/unsquashfs -lln out/image | awk '/secret|readable/ {print $1, $3, $NF}'
    echo 'with -exit-on-error:'
    run "${as_user[@]}" root/usr/bin/mksquashfs source out/other -quiet -no-progress -exit-on-error
    echo 'unsquashfs of a path that is not there:'
    run root/usr/bin/unsquashfs -quiet -no-progress -d out/tree out/image no/such/path
} > seen

cat > noted <<'END'
status 0
-rw-r--r-- 8 squashfs-root/readable
---------- 0 squashfs-root/secret
with -exit-on-error:
status 1
unsquashfs of a path that is not there:
status 0
END
if ! diff -u noted seen; then
    echo 'CHANGED: mksquashfs treats what it cannot read in another way' >&2
    exit 1
fi
cat seen
