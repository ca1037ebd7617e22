#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: whatthepatch 1.0.7 (PyPI), on the output of git format-patch.
# Guess: the changes of a file are the lines of its hunks, as many as each "@@" line tells.
# Seen: when a patch ends with a new file, the signature's "-- " behind it is one more change: line 0 with "- " is
#       removed, from a file that did not exist. A line with a form feed is cut there, with no error, and what follows
#       in the line is in no change. A hunk of another file, with a line before and behind, ends where it should.
# Matters: who counts changed lines, or asks whether a patch only adds: each series of git whose last file is new
#          removes a line. GNU programs have form feeds between their pages.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check whatthepatch==1.0.7

git init --quiet tree
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.com
printf 'one\ntwo\nthree\n' > tree/file
git -C tree add .
git -C tree commit --quiet --message old
printf 'one\n2\nthree\n' > tree/file
git -C tree commit --quiet --all --message 'changes a file'
printf '/* page 1 */\f/* page 2 */\nint x;\n' > tree/new
git -C tree add .
git -C tree commit --quiet --message 'adds a file'
git -C tree format-patch --quiet --output-directory .. HEAD~2

cat > probe.py <<'END'
import pathlib

import whatthepatch

for path in sorted(pathlib.Path().glob("*.patch")):
    for diff in whatthepatch.parse_patch(path.read_bytes().decode()):
        print(f"{path}: {diff.header.old_path} -> {diff.header.new_path}")
        for change in diff.changes:
            print(f"  {change.old} -> {change.new}: {change.line!r}")
END
{
    git -C tree log --numstat --format='git, %s:' -2 | grep .
    venv/bin/python probe.py
} > seen

cat > noted <<'END'
git, adds a file:
2	0	new
git, changes a file:
1	1	file
0001-changes-a-file.patch: file -> file
  1 -> 1: 'one'
  2 -> None: 'two'
  None -> 2: '2'
  3 -> 3: 'three'
0002-adds-a-file.patch: /dev/null -> new
  None -> 1: '/* page 1 */'
  None -> 2: 'int x;'
  0 -> None: '- '
END
if ! diff -u noted seen; then
    echo 'CHANGED: whatthepatch parses a signature, or a form feed, in another way' >&2
    exit 1
fi
cat seen
