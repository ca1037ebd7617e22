#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: kirk 4.2.0 (PyPI), the runner of the Linux Test Project.
# Guess: kirk exits with a status other than 0 when a test fails, as each LTP test and most runners do.
# Seen: a suite with a test that fails, one that crashes and one that is not there ends with 0, and so does
#       --run-command of a command that fails. Only a suite that kirk does not know ends with 1. A program that prints
#       no result and exits with 0 is a pass.
# Matters: CI that runs LTP in a guest by kirk and goes by its status: it cannot fail. Read stats of --json-report.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check kirk==4.2.0

export LTPROOT="$dir/ltp"
mkdir -p ltp/runtest ltp/testcases/bin tmp
printf '#!/bin/sh\necho "fail01.c:1: TFAIL: wrong"\nexit 1\n' > ltp/testcases/bin/fail01
# shellcheck disable=SC2016
printf '#!/bin/sh\nkill -SEGV $$\n' > ltp/testcases/bin/crash01
printf '#!/bin/sh\nexit 0\n' > ltp/testcases/bin/silent01
chmod +x ltp/testcases/bin/*
printf '%s\n' 'fail01 fail01' 'crash01 crash01' 'gone01 gone01' 'silent01 silent01' > ltp/runtest/suite

run() {
    status=0
    venv/bin/kirk --no-colors --tmp-dir tmp "$@" > out 2>&1 || status=$?
    echo "$1 $2: exit status $status"
}
{
    run --run-suite suite --json-report report.json
    venv/bin/python -c 'import json; print(json.load(open("report.json"))["stats"]["failed"], "failed")'
    grep -o '^silent01: [a-z]*' out
    run --run-command 'exit 3'
    run --run-suite unknown
} > seen

cat > noted <<'END'
--run-suite suite: exit status 0
3 failed
silent01: pass
--run-command exit 3: exit status 0
--run-suite unknown: exit status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: kirk ends with another status' >&2
    exit 1
fi
cat seen
