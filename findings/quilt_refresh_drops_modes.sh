#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: quilt 0.67+really0.66-1 (Debian 12).
# Guess: quilt pushes a patch in git's format with modes, a symbolic link and an empty file, and GNU patch does
#        all of that; so "quilt refresh" without a change in the tree keeps the patch's meaning.
# Seen: the refreshed patch has none of git's extended headers: a new script is no longer executable, a pure
#       mode change and an empty file are gone, and the symbolic link has become a copy of the file that it
#       pointed at. Each command exits with 0.
# Matters: kernel series kept with quilt (Debian's kernel is): after one refresh scripts/ and
#          tools/testing/selftests/ files are not executable, which only a run shows.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download quilt=0.67+really0.66-1
dpkg -x ./*.deb root
export QUILT_DIR="$dir/root/usr/share/quilt" QUILT_PATCHES=patches
quilt() { "$dir/root/usr/bin/quilt" --quiltrc - "$@" > /dev/null; }

mkdir -p tree/patches
cd tree
echo '#!/bin/sh' > old.sh
echo change.patch > patches/series
cat > patches/change.patch <<'END'
Add things.

diff --git a/empty b/empty
new file mode 100644
index 0000000..e69de29
diff --git a/link b/link
new file mode 120000
index 0000000..1234567
--- /dev/null
+++ b/link
@@ -0,0 +1 @@
+old.sh
\ No newline at end of file
diff --git a/new.sh b/new.sh
new file mode 100755
index 0000000..1234567
--- /dev/null
+++ b/new.sh
@@ -0,0 +1 @@
+#!/bin/sh
diff --git a/old.sh b/old.sh
old mode 100644
new mode 100755
END
umask 022
push() {
    quilt push
    echo "$1:"
    for file in empty link new.sh old.sh; do stat --format '%n %A' "$file" 2> /dev/null || echo "$file missing"; done
}
{
    push 'as it came'
    quilt refresh
    quilt pop
    push 'after refresh'
} > ../seen
cd ..

cat > noted <<'END'
as it came:
empty -rw-r--r--
link lrwxrwxrwx
new.sh -rwxr-xr-x
old.sh -rwxr-xr-x
after refresh:
empty missing
link -rw-r--r--
new.sh -rw-r--r--
old.sh -rw-r--r--
END
if ! diff -u noted seen; then
    echo 'CHANGED: quilt refresh keeps modes, links or empty files' >&2
    exit 1
fi
cat seen
