#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tap.py 3.2.1 (PyPI), command tappy, on KTAP as KUnit and kselftest print it.
# Guess: KTAP is a dialect of TAP: tappy takes the first line "KTAP version 1" and the indented subtests as lines
#        that it does not know, and judges the top level, so a report that passed passes.
# Seen: the unknown first line means that the plan is no longer at the beginning: each KTAP report fails, flat
#       or nested. With the header of TAP 13 in its place the file passes, and a failure inside a subtest is not
#       seen.
# Matters: who feeds a kernel's test output into a TAP tool. Use a parser made for KTAP.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tap.py==3.2.1

printf '%s\n' 'KTAP version 1' '1..1' 'ok 1 a' > flat
printf '%s\n' 'TAP version 13' '1..1' 'ok 1 a' > flat-tap13
printf '%s\n' 'TAP version 13' '1..1' '    1..1' '    not ok 1 inner' 'ok 1 outer' > nested-tap13
for file in flat flat-tap13 nested-tap13; do
    status=0
    venv/bin/tappy "$file" > out 2>&1 || status=$?
    echo "$file: exit status $status"
    grep '^A plan' out || true
done > seen

cat > noted <<'END'
flat: exit status 1
A plan must appear at the beginning or end of the file.
flat-tap13: exit status 0
nested-tap13: exit status 0
END
if ! diff -u noted seen; then
    echo 'CHANGED: tap.py judges KTAP, or a subtest, in another way' >&2
    exit 1
fi
cat seen
