#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: aexpect 1.8.0 (PyPI), the library under avocado-vt.
# Guess: a command that a signal killed has a status that is not 0: -9 as with subprocess, or 137 as with a
#        shell.
# Seen: run_fg() says 0, for SIGKILL, SIGTERM and SIGSEGV alike, and so does get_status() after kill(). Only
#       when a shell waits for the command, and hands its status on, is it 137.
# Matters: harnesses that start QEMU or a probe with it: killed for want of memory, or crashed, reads as a clean
#          end. Let a shell exit with the command's status.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aexpect==1.8.0
export PATH="$dir/venv/bin:$PATH"  # for its helper program

cat > probe.py <<'END'
import aexpect

for command in ("exit 3", "kill -9 $$", "kill -SEGV $$", "sh -c 'kill -9 $$'; exit $?"):
    print(command, "=>", aexpect.run_fg(command, timeout=20)[0])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
exit 3 => 3
kill -9 $$ => 0
kill -SEGV $$ => 0
sh -c 'kill -9 $$'; exit $? => 137
END
if ! diff -u noted seen; then
    echo 'CHANGED: aexpect reports a killed command in another way' >&2
    exit 1
fi
cat seen
