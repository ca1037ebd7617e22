#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: patch-ng 1.19.1 (PyPI).
# Guess: apply() of a git patch does all that git apply does, or returns False.
# Seen: it returns True. A rename is done, a change of mode and a new empty file are not.
# Matters: builds that apply a series without git: a script of the tree cannot be executed, a stamp file is missing,
#          and the step that failed is a later one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check patch-ng==1.19.1

mkdir tree
echo c > tree/old.c
echo 'echo run' > tree/run.sh
echo x > tree/text.c
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
END
cp -r tree by_git
(cd by_git && git init --quiet && git apply ../git.patch)
venv/bin/python -c "import patch_ng; print('apply():', patch_ng.fromfile('git.patch').apply(root='tree'))" > seen
for tree in by_git tree; do
    (cd "$tree" && find . -name .git -prune -o -type f -printf "$tree %P %m\n" | sort)
done >> seen

cat > noted <<'END'
apply(): True
by_git empty 644
by_git new.c 644
by_git run.sh 755
by_git text.c 644
tree new.c 644
tree run.sh 644
tree text.c 644
END
if ! diff -u noted seen; then
    echo 'CHANGED: patch-ng applies git patches in another way' >&2
    exit 1
fi
cat seen
