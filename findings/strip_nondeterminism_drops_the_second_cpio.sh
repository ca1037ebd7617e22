#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: strip-nondeterminism 1.13.1-1 (Debian 12).
# Guess: of an initramfs that is two cpio archives one after the other, as the kernel's buffer format allows and early
#        microcode makes usual, strip-nondeterminism sets the time stamps in both, or in the first alone.
# Seen: the first archive is written back over the file, and the second is gone, with status 0. Without the recommended
#       package libarchive-cpio-perl the file is left as it is, and the status is 0 too.
# Matters: reproducible images: the result has the microcode and no root file system, or still has its time stamps.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download cpio=2.13+dfsg-7.1 libarchive-cpio-perl=0.10-3 \
    libarchive-zip-perl=1.68-1 libfile-stripnondeterminism-perl=1.13.1-1 libsub-override-perl=0.09-4 \
    strip-nondeterminism=1.13.1-1
for package in ./*.deb; do
    case $package in *libarchive-cpio*) dpkg -x "$package" recommended ;; *) dpkg -x "$package" root ;; esac
done

mkdir -p early/kernel/x86/microcode main
echo microcode > early/kernel/x86/microcode/GenuineIntel.bin
echo program > main/init
for name in early main; do
    (cd "$name" && find . -type f | "$dir/root/bin/cpio" --quiet --create --format newc) >> image
done
cp image kept
strip() {
    PERL5LIB="$dir/root/usr/share/perl5:$dir/$1" root/usr/bin/strip-nondeterminism --timestamp 1 --type cpio image 2>&1
    echo "status $?"
}
show() {
    echo "$(stat --format %s image) bytes, $(grep --count --text --only-matching TRAILER image) trailers," \
        "$(grep --count --text program image) of the second archive's file"
}
{
    show
    strip nothing
    cmp image kept && echo 'as it was'
    strip recommended/usr/share/perl5
    show
} > seen

cat > noted <<'END'
1024 bytes, 2 trailers, 1 of the second archive's file
status 0
as it was
status 0
512 bytes, 1 trailers, 0 of the second archive's file
END
if ! diff -u noted seen; then
    echo 'CHANGED: strip-nondeterminism treats concatenated cpio archives in another way' >&2
    exit 1
fi
cat seen
