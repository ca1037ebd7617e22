#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tap-junit 5.0.4 (npm).
# Guess: each line of diagnostics of a TAP stream is in the report, with the test that it was written for; and the
#        status tells of a failed test, wherever the report goes.
# Seen: of several lines in a row only the last is kept. It goes to the test that follows, not to the one before, and to
#       each further test too, until another comment comes: tests that passed have the output of one that failed. With
#       --output the status of a failed test is 1; when the report goes to the standard output it is 0.
# Matters: Test::More and others write what a failed test has to say behind it: in the report its neighbours say it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm install --silent --no-fund --no-audit tap-junit@5.0.4 > /dev/null

cat > in.tap <<'END'
TAP version 13
1..4
ok 1 - starts
not ok 2 - reads nothing
# page 7 was read
# page 9 was read
ok 3 - stops
ok 4 - starts again
END
cat > show.py <<'END'
import xml.etree.ElementTree as ET

for case in ET.parse("report.xml").iter("testcase"):
    verdict = "passed" if case.find("failure") is None else "failed"
    print(verdict, case.get("name"), repr((case.findtext("system-out") or "").strip()))
END
{
    status=0
    node_modules/.bin/tap-junit < in.tap > report.xml || status=$?
    echo "to the standard output: status $status"
    status=0
    node_modules/.bin/tap-junit --output . --name report.xml < in.tap > out 2>&1 || status=$?
    echo "to a file: status $status"
    python3 show.py
} > seen

cat > noted <<'END'
to the standard output: status 0
to a file: status 1
passed starts ''
failed reads nothing ''
passed stops '# page 9 was read'
passed starts again '# page 9 was read'
END
if ! diff -u noted seen; then
    echo 'CHANGED: tap-junit treats comments, or a failed test, in another way' >&2
    exit 1
fi
cat seen
