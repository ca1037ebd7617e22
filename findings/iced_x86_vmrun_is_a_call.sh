#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: iced-x86 1.21.0 (PyPI).
# Guess: flow_control is about branches: VMRUN, VMMCALL and VMLAUNCH go on at the next instruction (NEXT), like
#        HLT and CPUID, which may leave the guest as well.
# Seen: VMRUN, VMMCALL and VMGEXIT are CALL, SKINIT is RETURN, while HLT, CPUID, VMLOAD and WRMSR are NEXT.
#       There is no near_branch_target to go with such a CALL.
# Matters: call graphs and basic blocks of KVM's entry code, or single-stepping past calls: "a CALL has a target"
#          does not hold, and a block ends at VMRUN.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check iced-x86==1.21.0

cat > probe.py <<'END'
from iced_x86 import Decoder, FlowControl

names = {getattr(FlowControl, name): name for name in dir(FlowControl) if name.isupper()}
codes = ("0f01d8", "0f01d9", "f30f01d9", "0f01c2", "0f01de", "0f01da", "f4", "0fa2", "0f30")
for code in codes:
    instruction = Decoder(64, bytes.fromhex(code)).decode()
    print(f"{instruction}: {names[instruction.flow_control]}, target {instruction.near_branch_target:#x}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
vmrun rax: CALL, target 0x0
vmmcall: CALL, target 0x0
vmgexit: CALL, target 0x0
vmlaunch: CALL, target 0x0
skinit eax: RETURN, target 0x0
vmload rax: NEXT, target 0x0
hlt: NEXT, target 0x0
cpuid: NEXT, target 0x0
wrmsr: NEXT, target 0x0
END
if ! diff -u noted seen; then
    echo 'CHANGED: iced-x86 classes these instructions in another way' >&2
    exit 1
fi
cat seen
