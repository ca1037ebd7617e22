#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tap-xunit 2.4.1 (npm).
# Guess: a TAP stream with fewer tests than its plan, or with "Bail out!", becomes a report with a failure or an error;
#        the plan is there to notice a program that stopped early. tap-xunit has status 1 for a test that fails.
# Seen: the report has the tests that ran, none of them failed, and the status is 0: the same as if the plan were
#       one test. Tests that the plan has and the stream has not are not in the report.
# Matters: CI that shows JUnit's format: a run that a panic or a time-out cut is green. Compare the number of test
#          cases.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm install --silent --no-fund --no-audit tap-xunit@2.4.1 > /dev/null
show() {
    local status=0
    echo "$1:"
    printf '%b' "$2" | node_modules/.bin/tap-xunit > report.xml || status=$?
    grep --only-matching '<testsuite [^>]*>' report.xml
    echo "status $status"
}
{
    show 'one of one' 'TAP version 13\n1..1\nok 1 - starts\n'
    show 'one of three' 'TAP version 13\n1..3\nok 1 - starts\n'
    show 'bailed out' 'TAP version 13\n1..3\nok 1 - starts\nBail out! no device\n'
    show 'one failed' 'TAP version 13\n1..1\nnot ok 1 - starts\n'
} > seen

cat > noted <<'END'
one of one:
<testsuite tests="1" failures="0" errors="0" name="Default">
status 0
one of three:
<testsuite tests="1" failures="0" errors="0" name="Default">
status 0
bailed out:
<testsuite tests="1" failures="0" errors="0" name="Default">
status 0
one failed:
<testsuite tests="1" failures="1" errors="0" name="Default">
status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: tap-xunit treats what a plan has and the stream has not in another way' >&2
    exit 1
fi
cat seen
