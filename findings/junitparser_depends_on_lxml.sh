#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: junitparser 5.0.3 (PyPI), with and without lxml 6.1.3.
# Guess: the library's behaviour does not hang on what else is installed. A control character that XML cannot
#        hold, such as the escape of a coloured console log, is refused or dropped.
# Seen: junitparser takes lxml when it is there: then setting system_out raises ValueError. Without lxml the
#       same call writes a file that junitparser itself cannot read back.
# Matters: console logs in JUnit reports: green on the laptop, a broken artefact or an exception in CI. Strip the
#          characters oneself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check junitparser==5.0.3

cat > probe.py <<'END'
from junitparser import JUnitXml, TestCase, TestSuite

case = TestCase("a")
try:
    case.system_out = "boot \x1b[31mred"
except ValueError as error:
    print("set: ValueError")
    raise SystemExit from error
suite, report = TestSuite("s"), JUnitXml()
suite.add_testcase(case)
report.add_testsuite(suite)
report.write("report.xml")
try:
    JUnitXml.fromfile("report.xml")
except SyntaxError as error:
    print("written; read back:", type(error).__name__)
END
{
    echo 'without lxml:'
    venv/bin/python probe.py
    venv/bin/pip install --quiet --disable-pip-version-check lxml==6.1.3
    echo 'with lxml:'
    venv/bin/python probe.py
} > seen

cat > noted <<'END'
without lxml:
written; read back: ParseError
with lxml:
set: ValueError
END
if ! diff -u noted seen; then
    echo 'CHANGED: junitparser treats control characters in another way' >&2
    exit 1
fi
cat seen
