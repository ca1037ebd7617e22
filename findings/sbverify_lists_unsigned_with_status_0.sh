#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: sbsigntool 0.9.4-3.1, on the EFI stub of systemd 252.39-1~deb12u2 (Debian 12).
# Guess: sbverify --list of an image without a signature fails, as sbattach --detach does. sbattach --remove gives back
#        the image that was signed.
# Seen: sbverify --list exits with 0 and prints "No signature table present" on stderr. What --remove leaves is 7 bytes
#       longer than the image was: the padding to 8 bytes stays, and the header's checksum is a new one.
# Matters: a build of unified kernel images that asks whether they are signed, and one that takes the signature off to
#          compare with an unsigned build byte by byte: compare the Authenticode digests.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download sbsigntool=0.9.4-3.1 systemd-boot-efi=252.39-1~deb12u2
for package in ./*.deb; do dpkg -x "$package" root; done
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -subj /CN=finding -days 30 2> /dev/null

cp root/usr/lib/systemd/boot/efi/linuxx64.efi.stub plain
root/usr/bin/sbsign --key key --cert certificate --output signed plain 2> /dev/null
cp signed removed
root/usr/bin/sbattach --remove removed 2> /dev/null
for image in plain signed removed; do
    status=0
    root/usr/bin/sbverify --list "$image" > out 2> errors || status=$?
    echo "$image: --list exit status $status, $(grep -c '^signature' out) signatures"
done > seen
echo "plain: $(stat --format=%s plain) bytes, removed: $(stat --format=%s removed) bytes" >> seen
status=0
root/usr/bin/sbattach --detach signature plain 2> /dev/null || status=$?
echo "plain: --detach exit status $status" >> seen

cat > noted <<'END'
plain: --list exit status 0, 0 signatures
signed: --list exit status 0, 1 signatures
removed: --list exit status 0, 0 signatures
plain: 83297 bytes, removed: 83304 bytes
plain: --detach exit status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: sbverify or sbattach does so in another way' >&2
    exit 1
fi
cat seen
