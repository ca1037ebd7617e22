#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: junit2html 31.1.4 (PyPI).
# Guess: testsuites may be nested in JUnit XML; the page shows the cases of the inner ones too, at least those
#        that failed.
# Seen: the inner suite is left out without a word, with the failure in it: the page and the matrix say 1
#       passed, 0 failed.
# Matters: a report that groups claims by nested suites looks green. Write the suites flat.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check junit2html==31.1.4

cat > report.xml <<'END'
<testsuites><testsuite name="outer">
  <testsuite name="inner"><testcase classname="k" name="broken"><failure message="boom"/></testcase></testsuite>
  <testcase classname="k" name="fine"/>
</testsuite></testsuites>
END
venv/bin/junit2html report.xml page.html
{
    venv/bin/junit2html report.xml --summary-matrix | grep -E 'broken|fine|Passed +:|Failed +:' | tr -s ' '
    grep -c broken page.html || true
} > seen

cat > noted <<'END'
- fine / / Passed
 Passed : 1
0
END
if ! diff -u noted seen; then
    echo 'CHANGED: junit2html shows nested suites in another way' >&2
    exit 1
fi
cat seen
