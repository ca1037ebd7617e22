#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: unicorn 2.1.4 (PyPI).
# Guess: a REP string instruction is one instruction: UC_HOOK_CODE fires once for it, and count=N of emu_start()
#        stops after N instructions.
# Seen: the hook fires once for each repetition and once more at its end, at the same address: 4 times for rcx =
#       3. And count counts repetitions: with count=3 it stops in the middle of the instruction, RIP still on
#       it.
# Matters: instruction traces and coverage by unicorn, or comparing them with a real CPU's single steps or
#          instruction counter.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check unicorn==2.1.4

cat > probe.py <<'END'
from unicorn import UC_ARCH_X86, UC_HOOK_CODE, UC_MODE_64, Uc
from unicorn.x86_const import UC_X86_REG_RCX, UC_X86_REG_RDI, UC_X86_REG_RIP, UC_X86_REG_RSI

def run(repetitions, count=0):
    machine = Uc(UC_ARCH_X86, UC_MODE_64)
    machine.mem_map(0x1000, 0x3000)
    machine.mem_write(0x1000, bytes.fromhex("f3a4 90"))  # rep movsb; nop
    machine.reg_write(UC_X86_REG_RCX, repetitions)
    machine.reg_write(UC_X86_REG_RSI, 0x2000)
    machine.reg_write(UC_X86_REG_RDI, 0x3000)
    hooked = []
    machine.hook_add(UC_HOOK_CODE, lambda uc, address, size, data: hooked.append(hex(address)))
    machine.emu_start(0x1000, 0x1003, count=count)
    return hooked, hex(machine.reg_read(UC_X86_REG_RIP)), machine.reg_read(UC_X86_REG_RCX)

print("hooked:", run(3)[0])
print("count=3 of 10:", run(10, count=3)[1:])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
hooked: ['0x1000', '0x1000', '0x1000', '0x1000', '0x1002']
count=3 of 10: ('0x1000', 7)
END
if ! diff -u noted seen; then
    echo 'CHANGED: unicorn counts a REP instruction in another way' >&2
    exit 1
fi
cat seen
