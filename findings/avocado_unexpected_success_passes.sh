#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: avocado-framework 113.0 (PyPI), runner "python-unittest".
# Guess: a unittest marked expectedFailure that succeeds is a failure of the run, as python3 -m unittest has it
#        (exit status 1, "unexpected successes").
# Seen: avocado says pass, just as it does for a test that failed as expected.
# Matters: tests that pin a known hole: the day it is closed, or the test breaks, nobody is told. The mark proves
#          nothing under avocado.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check avocado-framework==113.0 'setuptools<80'
export HOME="$dir"

cat > test_x.py <<'END'
import unittest

class X(unittest.TestCase):
    @unittest.expectedFailure
    def test_fails(self):
        self.fail("as expected")

    @unittest.expectedFailure
    def test_succeeds(self):
        pass
END
for name in test_fails test_succeeds; do
    venv/bin/avocado-runner-python-unittest runnable-run -k python-unittest -u "test_x.py:X.$name" > out 2>&1
    status=0
    venv/bin/python -m unittest -q "test_x.X.$name" > /dev/null 2>&1 || status=$?
    echo "$name: avocado $(grep -o "'result': '[a-z]*'" out), unittest exit status $status"
done > seen

cat > noted <<'END'
test_fails: avocado 'result': 'pass', unittest exit status 0
test_succeeds: avocado 'result': 'pass', unittest exit status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: avocado judges an unexpected success in another way' >&2
    exit 1
fi
cat seen
