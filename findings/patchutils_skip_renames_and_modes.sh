#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: patchutils 0.4.2-1 (Debian 12).
# Guess: lsdiff lists every file that a git patch touches, and filterdiff without a pattern passes all of it on.
# Seen: lsdiff lists the file with hunks alone, and filterdiff passes that one alone. A rename, a change of mode, a new
#       empty file and a binary patch are left out, with status 0. With --exclude=FILE filterdiff passes them, and
#       writes the line "diff --git" of two of them twice.
# Matters: scripts that ask which files a kernel patch touches, or that split a series: a script loses its
#          execute bit, a renamed file is not checked. Ask git apply --numstat --summary.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

apt-get -qq -o APT::Sandbox::User=root download patchutils=0.4.2-1
dpkg -x ./patchutils_*.deb root

cat > git.patch <<'END'
diff --git a/old.c b/new.c
similarity index 100%
rename from old.c
rename to new.c
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git a/empty b/empty
new file mode 100644
index 0000000..e69de29
diff --git a/text.c b/text.c
index 587be6b..975fbec 100644
--- a/text.c
+++ b/text.c
@@ -1 +1 @@
-x
+y
diff --git a/blob b/blob
index e69de29..b2a2b9c 100644
GIT binary patch
literal 4
LcmZQzWMT#Y01f~L

literal 0
HcmV?d00001

END
{
    echo "lsdiff: $(root/usr/bin/lsdiff --strip=1 git.patch | xargs), status ${PIPESTATUS[0]}"
    for option in '' --exclude='*/text.c'; do
        root/usr/bin/filterdiff ${option:+"$option"} git.patch > out
        echo "filterdiff${option:+ $option}"
        grep -E '^(diff|rename to|new|GIT)' out
    done
} > seen

cat > noted <<'END'
lsdiff: text.c, status 0
filterdiff
diff --git a/text.c b/text.c
filterdiff --exclude=*/text.c
diff --git a/old.c b/new.c
rename to new.c
diff --git a/run.sh b/run.sh
diff --git a/run.sh b/run.sh
new mode 100755
diff --git a/empty b/empty
diff --git a/empty b/empty
new file mode 100644
diff --git a/blob b/blob
GIT binary patch
END
if ! diff -u noted seen; then
    echo 'CHANGED: patchutils pass on git patches in another way' >&2
    exit 1
fi
cat seen
