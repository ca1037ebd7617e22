#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: gcovr 8.8 (PyPI).
# Guess: --fail-under-branch and --fail-under-function fail when there is no coverage data at all, as --fail-under-line
#        does.
# Seen: only the line gate fails. Nothing of nothing is 0 % of lines, and 100 % of branches, functions and decisions.
# Matters: coverage that is fetched from a kernel or a guest: when the machine died before its counters were saved, or a
#          filter matches no file, a gate on branches is green. Gate on lines as well.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check gcovr==8.8

mkdir empty
for gate in line branch function decision; do
    status=0
    venv/bin/gcovr --root empty --fail-under-$gate 90 empty > out 2> errors || status=$?
    echo "--fail-under-$gate 90: exit status $status"
done > seen

cat > noted <<'END'
--fail-under-line 90: exit status 2
--fail-under-branch 90: exit status 0
--fail-under-function 90: exit status 0
--fail-under-decision 90: exit status 0
END
if ! diff -u noted seen; then
    echo 'CHANGED: gcovr gates in another way' >&2
    exit 1
fi
cat seen
