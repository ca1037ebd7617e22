#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: sarif-tools 3.0.5 (PyPI).
# Guess: a result that SARIF says is suppressed (suppressions, status accepted), or gone since the baseline
#        (baselineState absent), is left out of the counts and of the gate --check.
# Seen: both are counted as errors like any other. The exit status of --check is the number of results, so 2 may
#       mean two errors and not wrong usage.
# Matters: a report that keeps waived or fixed findings in the file, as SARIF intends: the CI gate goes red on
#          them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check sarif-tools==3.0.5

cat > report.sarif <<'END'
{"version": "2.1.0", "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "runs": [{
  "tool": {"driver": {"name": "t", "rules": [{"id": "R1"}]}},
  "results": [
    {"ruleId": "R1", "level": "error", "message": {"text": "waived"},
     "suppressions": [{"kind": "external", "status": "accepted", "justification": "known"}]},
    {"ruleId": "R1", "level": "error", "message": {"text": "fixed"}, "baselineState": "absent"}]}]}
END
status=0
venv/bin/sarif --check error summary report.sarif > out || status=$?
{ grep '^error' out; echo "exit status $status"; } > seen

cat > noted <<'END'
error: 2
exit status 2
END
if ! diff -u noted seen; then
    echo 'CHANGED: sarif-tools 3.0.5 counts suppressed and absent results in another way' >&2
    exit 1
fi
cat seen
