#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tap2junit 0.2.0 (PyPI).
# Guess: TAP's TODO marks a failure that is expected: "not ok # TODO" becomes skipped or passed in JUnit XML, and
#        "ok # TODO" a pass, or a failure in a strict tool.
# Seen: it is upside down: the expected failure becomes a <failure>, the test that passed becomes <skipped>.
#       "not ok # SKIP", which the kernel's own tools count as skipped, becomes a <failure> too.
# Matters: CI that shows TAP or KTAP as JUnit: known failures turn the job red, and passes are lost.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tap2junit==0.2.0 junitparser==5.0.3

printf '%s\n' 'TAP version 13' '1..4' 'not ok 1 a # TODO known' 'ok 2 b # TODO known' \
    'not ok 3 c # SKIP no device' 'ok 4 d # SKIP no device' > report.tap
venv/bin/tap2junit --input report.tap --output report.xml
cat > probe.py <<'END'
from junitparser import JUnitXml

for suite in JUnitXml.fromfile("report.xml"):
    for case in suite:
        print(case.name.strip(), [type(result).__name__ for result in case.result] or "passed")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
a ['Failure']
b ['Skipped']
c ['Failure']
d ['Skipped']
END
if ! diff -u noted seen; then
    echo 'CHANGED: tap2junit maps TODO or SKIP in another way' >&2
    exit 1
fi
cat seen
