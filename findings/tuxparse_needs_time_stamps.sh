#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: tuxparse 0.6.0 (PyPI), log parser boot_test.
# Guess: a console log with an oops and a panic is a failed boot, with or without the time stamps of printk; they
#        are an option of the kernel (printk.time).
# Seen: without time stamps nothing is found at all: no panic, no oops, not even the unknown-boot-failure that
#       it gives for a log in which nothing is wrong and nobody logs in.
# Matters: consoles of kernels without CONFIG_PRINTK_TIME, and logs whose stamps a tool has stripped or replaced by
#          the host's: each one passes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tuxparse==0.6.0

printf '%s\n' \
    '[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008' \
    '[    2.000001] Oops: Oops: 0000 [#1] PREEMPT SMP' \
    '[    2.000002] ---[ end trace 0000000000000000 ]---' \
    '[    3.000000] Kernel panic - not syncing: Fatal exception' > stamped
sed 's/^\[[^]]*\] //' stamped > bare
echo '[    1.000000] random: crng init done' > healthy
for log in stamped bare healthy; do
    venv/bin/python -m tuxparse --log-file "$log" --log-parser boot_test --unique \
        --result-file "$log.json" > /dev/null
    echo "$log:"
    grep -oE '"(panic|oops|bug|unknown)-[A-Za-z]*' "$log.json" | tr -d '"' | sort || true
done > seen

cat > noted <<'END'
stamped:
bug-BUG
oops-multiline
panic-Kernel
bare:
healthy:
unknown-boot
END
if ! diff -u noted seen; then
    echo 'CHANGED: tuxparse reads a log without time stamps in another way' >&2
    exit 1
fi
cat seen
