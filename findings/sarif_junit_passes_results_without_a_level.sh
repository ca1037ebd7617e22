#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: sarif-junit 1.1.4 (npm).
# Guess: a result without "level" becomes a failed test case: by SARIF 2.1.0 (3.27.10) its level is then that of its
#        rule, and "warning" if the rule has none. A result that is written with "warning" fails.
# Seen: it becomes a test case that passed, though its rule says "error", and the status is 0. So does one with "note",
#       and one with kind "pass": all three look alike.
# Matters: CodeQL writes no level on its results, and others leave out the usual one: each of their findings is a green
#          test. Write the levels out before, from the rules.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm install --silent --no-fund --no-audit sarif-junit@1.1.4 > /dev/null

cat > make.py <<'END'
import json

RULES = [{"id": "use-after-free", "defaultConfiguration": {"level": "error"}}, {"id": "dead-store"}]


def result(rule, text, **more):
    place = {"physicalLocation": {"artifactLocation": {"uri": "mm/guest.c"}, "region": {"startLine": 7}}}
    return {"ruleId": rule, "message": {"text": text}, "locations": [place], **more}


results = [
    result("use-after-free", "level error", level="error"),
    result("use-after-free", "error by its rule"),
    result("dead-store", "level warning", level="warning"),
    result("dead-store", "warning by the usual level"),
    result("dead-store", "level note", level="note"),
    result("dead-store", "kind pass", kind="pass", level="none"),
]
run = {"tool": {"driver": {"name": "checker", "rules": RULES}}, "results": results}
with open("in.sarif", "w") as file:
    json.dump({"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}, file)
END
python3 make.py
{
    node_modules/.bin/sarif-junit in.sarif out.xml > out
    echo "status $?"
    python3 - <<'END'
import xml.etree.ElementTree as ET

for case in ET.parse("out.xml").iter("testcase"):
    print("passed" if case.find("failure") is None else "failed", case.get("name"))
END
} > seen

cat > noted <<'END'
status 0
failed Ln 7 level error
passed error by its rule
failed Ln 7 level warning
passed warning by the usual level
passed level note
passed kind pass
END
if ! diff -u noted seen; then
    echo 'CHANGED: sarif-junit treats levels in another way' >&2
    exit 1
fi
cat seen
