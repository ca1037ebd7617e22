#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: jc 1.26.1 (PyPI), --proc-pid-status, --proc-pid-fdinfo and --proc-mtrr.
# Guess: a number in the JSON is the number that the kernel wrote; where a line has two, or a unit, the JSON has them.
# Seen: the two process numbers of a task in a namespace, 4211 and 7, are one: 42117. The flags of an open file, which
#       are octal, are read as decimal: 02100000 has O_CLOEXEC, and 2100000 has not. The size of an MTRR loses its
#       unit: 512 KB is 512, and 1024 MB is 1024.
# Matters: who finds a guest's QEMU in a container by NSpid, asks whether a descriptor survives exec, or compares the
#          types of memory with the firmware's map.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jc==1.26.1

cat > probe.py <<'END'
import os

import jc

status = "Name:\tqemu-system-x86\nPid:\t4211\nNStgid:\t4211\t7\nNSpid:\t4211\t7\nThreads:\t3\n"
parsed = jc.parse("proc_pid_status", status)
print({key: parsed[key] for key in ("Pid", "NStgid", "NSpid", "Threads")})

flags = jc.parse("proc_pid_fdinfo", "pos:\t0\nflags:\t02100000\nmnt_id:\t15\nino:\t1041\n")["flags"]
print(f"{flags = }, closed by exec: {bool(flags & os.O_CLOEXEC)}; as octal: {bool(0o2100000 & os.O_CLOEXEC)}")

for register in jc.parse(
    "proc_mtrr",
    "reg00: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n"
    "reg01: base=0x0fff00000 ( 4095MB), size=  512KB, count=1: write-protect\n",
):
    print({key: register[key] for key in ("base", "size", "type")})
END
venv/bin/python probe.py > seen

cat > noted <<'END'
{'Pid': 4211, 'NStgid': 42117, 'NSpid': 42117, 'Threads': 3}
flags = 2100000, closed by exec: False; as octal: True
{'base': '0x0c0000000', 'size': 1024, 'type': 'uncachable'}
{'base': '0x0fff00000', 'size': 512, 'type': 'write-protect'}
END
if ! diff -u noted seen; then
    echo 'CHANGED: jc reads status, fdinfo or mtrr in another way' >&2
    exit 1
fi
cat seen
