#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: capstone 5.0.9 (PyPI), against iced-x86 1.21.0.
# Guess: an instruction that the disassembler does not know yet ends the listing, or is shown as bytes; it is not
#        shown as another one.
# Seen: where a prefix makes a new instruction of an old opcode, capstone shows the old one: AMD's vmgexit (F3
#       0F 01 D9) as vmmcall, FRED's eretu (F3 0F 01 CA) as clac, clui (F3 0F 01 EE) as rdpkru, seamcall (66 0F
#       01 CF) as encls. pvalidate and rdpru it does not know, and stops.
# Matters: audits that look in a kernel or a VMM for the instructions that leave or enter a guest: they find a
#          vmmcall that is none, and miss the vmgexit.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check capstone==5.0.9 iced-x86==1.21.0

cat > probe.py <<'END'
import capstone
import iced_x86

disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
for code in ("0f01d9", "f30f01d9", "f30f01ca", "f30f01ee", "660f01cf", "f20f01ff", "0f01fd"):
    data = bytes.fromhex(code)
    found = [instruction.mnemonic for instruction in disassembler.disasm(data, 0)]
    print(f"{code}: capstone {' '.join(found) or 'nothing'}, iced {iced_x86.Decoder(64, data).decode()}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
0f01d9: capstone vmmcall, iced vmmcall
f30f01d9: capstone vmmcall, iced vmgexit
f30f01ca: capstone clac, iced eretu
f30f01ee: capstone rdpkru, iced clui
660f01cf: capstone encls, iced seamcall
f20f01ff: capstone nothing, iced pvalidate
0f01fd: capstone nothing, iced rdpru
END
if ! diff -u noted seen; then
    echo 'CHANGED: capstone or iced-x86 names these instructions in another way' >&2
    exit 1
fi
cat seen
