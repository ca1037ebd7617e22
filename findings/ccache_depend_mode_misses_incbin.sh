#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: ccache 4.8+really4.7.5-1 (Debian 12), with gcc.
# Guess: a source that takes in a file by .incbin is never served from the cache while that file changes: the manual
#        says that ccache does not know such files, and without depend mode it runs the compiler each time.
# Seen: with depend_mode, and -MD as kbuild has it, the second compilation is a direct hit, and the object holds the
#       file's old content. The check for .incbin is part of the look at preprocessed code, which depend mode leaves
#       out, and a compiler's list of dependencies does not name the file.
# Matters: a kernel's arch/x86/boot/compressed/piggy.S is such a source, and its text has only the sizes of the
#          compressed kernel: of two kernels of one size the second one's bzImage boots the first one. So too
#          kernel/configs.c, certs, and whatever embeds a blob in firmware and hypervisors.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download ccache=4.8+really4.7.5-1 libhiredis0.14=0.14.1-3
for deb in ./*.deb; do dpkg -x "$deb" root; done
libraries=$(gcc -print-multiarch)
export LD_LIBRARY_PATH="$dir/root/usr/lib/$libraries" CCACHE_DIR="$dir/cache" CCACHE_CONFIGPATH=/dev/null
ccache=$dir/root/usr/bin/ccache

printf '.incbin "held"\n' > blob.S
for mode in CCACHE_NODEPEND CCACHE_DEPEND; do
    echo "$mode"
    for content in first other; do
        printf '%s' "$content" > held
        env "$mode=1" "$ccache" gcc -MD -c -o blob.o blob.S
        echo "$content => $(strings -n 5 blob.o | grep -xE 'first|other')"
    done
done > seen

cat > noted <<'END'
CCACHE_NODEPEND
first => first
other => other
CCACHE_DEPEND
first => first
other => first
END
if ! diff -u noted seen; then
    echo 'CHANGED: ccache serves a source with .incbin in another way' >&2
    exit 1
fi
cat seen
