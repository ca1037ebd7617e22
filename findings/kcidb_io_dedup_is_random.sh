#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: kcidb-io 141 (PyPI), schema 5.3.
# Guess: dedup() of a data set with the same test twice, once PASS and once FAIL, gives one fixed answer: the
#        last, the worse, or an error.
# Seen: each attribute that differs is picked by a random bit: the same call says PASS one time and FAIL the
#       next. validate() has nothing against the two before that.
# Matters: who merges parts of a run, or runs again, and sends them to KCIDB under the same id. The id must be new
#          for each run, or pick_second must be given.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check kcidb-io==141

cat > probe.py <<'END'
from kcidb_io.schema import LATEST

def report(status):
    test = {"id": "o:1", "origin": "o", "build_id": "o:b", "status": status}
    return {"version": {"major": 5, "minor": 3}, "tests": [test]}

both = LATEST.merge(report("PASS"), [report("FAIL")])
print("valid with two of one id:", LATEST.is_valid(both))
# 200 tries that all agree by chance: one in 2 to the power of 199.
print("picked:", sorted({LATEST.dedup(both)["tests"][0]["status"] for _ in range(200)}))
always = {LATEST.dedup(both, pick_second=lambda: True)["tests"][0]["status"] for _ in range(200)}
print("picked with pick_second:", sorted(always))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
valid with two of one id: True
picked: ['FAIL', 'PASS']
picked with pick_second: ['FAIL']
END
if ! diff -u noted seen; then
    echo 'CHANGED: kcidb-io picks no longer at random' >&2
    exit 1
fi
cat seen
