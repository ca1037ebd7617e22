#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: avocado-framework 113.0 (PyPI), runner "tap".
# Guess: a TAP program that prints its whole plan as ok and then exits with 3 is a failure or an error, as prove
#        has it ("Dubious").
# Seen: the runner notes the return code and says pass. The runner of plain programs, exec-test, says fail for
#       the same program.
# Matters: a test whose last step, a leak check or a clean-up, speaks by the exit status alone: as kind tap it is
#          green.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check avocado-framework==113.0 'setuptools<80'
export HOME="$dir"

printf '%s\n' '#!/bin/sh' 'echo 1..1' 'echo ok 1 a' 'exit 3' > test.sh
chmod +x test.sh
for kind in tap exec-test; do
    "venv/bin/avocado-runner-$kind" runnable-run -k "$kind" -u "$dir/test.sh" > out
    echo "$kind: $(grep -o "'result': '[a-z]*', 'returncode': [0-9]*" out)"
done > seen

cat > noted <<'END'
tap: 'result': 'pass', 'returncode': 3
exec-test: 'result': 'fail', 'returncode': 3
END
if ! diff -u noted seen; then
    echo 'CHANGED: avocado judges the exit status of a TAP program in another way' >&2
    exit 1
fi
cat seen
