#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: lcov_cobertura 2.1.1 (PyPI).
# Guess: an lcov tracefile has a record for each test (TN) and file, and one file's records of several tests are
#        added up, as genhtml does.
# Seen: the lines of the last record replace the earlier ones, so a line that only an earlier test ran is
#       uncovered; but the totals count the file's lines once a record.
# Matters: the kernel's gcov data, collected once a test and put together: coverage depends on the order, and a
#          gate on it too. Merge with lcov under one test name first.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check lcov_cobertura==2.1.1 'setuptools<80'

record() { printf '%s\n' "TN:$1" SF:a.c "DA:1,$2" "DA:2,$3" LF:2 LH:1 end_of_record; }
{
    record boot 3 0
    record probe 0 5
} > trace.info
venv/bin/lcov_cobertura trace.info --output coverage.xml
cat > probe.py <<'END'
from xml.etree import ElementTree

root = ElementTree.parse("coverage.xml").getroot()
for line in root.iter("line"):
    print("line", line.get("number"), "hits", line.get("hits"))
print(root.get("lines-covered"), "of", root.get("lines-valid"), "lines")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
line 1 hits 0
line 2 hits 5
2 of 4 lines
END
if ! diff -u noted seen; then
    echo 'CHANGED: lcov_cobertura puts records together in another way' >&2
    exit 1
fi
cat seen
