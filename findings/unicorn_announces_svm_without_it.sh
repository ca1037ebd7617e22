#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: unicorn 2.1.4 (PyPI), CPU model EPYC.
# Guess: unicorn is QEMU's emulator, and QEMU emulates SVM: when CPUID says that the CPU has SVM and EFER.SVME
#        can be set, STGI, CLGI and VMMCALL can run. Or CPUID does not say so.
# Seen: CPUID 8000_0001 says SVM, WRMSR sets EFER.SVME and RDMSR reads it back, but each SVM instruction is
#       UC_ERR_INSN_INVALID. Without a model 64-bit mode is an Intel Haswell.
# Matters: code that probes the CPU before it uses SVM, run in unicorn as a quick test: the probe lies. Use QEMU
#          itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check unicorn==2.1.4

cat > probe.py <<'END'
from unicorn import UC_ARCH_X86, UC_MODE_64, Uc, UcError
from unicorn.x86_const import UC_CPU_X86_EPYC, UC_X86_REG_EAX, UC_X86_REG_ECX

SET_SVME = "b9800000c0 0f32 0d00100000 0f30"  # rdmsr, or eax with bit 12, wrmsr, of EFER

def run(code, model=UC_CPU_X86_EPYC):
    machine = Uc(UC_ARCH_X86, UC_MODE_64)
    if model is not None:
        machine.ctl_set_cpu_model(model)
    data = bytes.fromhex(code)
    machine.mem_map(0x1000, 0x1000)
    machine.mem_write(0x1000, data)
    try:
        machine.emu_start(0x1000, 0x1000 + len(data))
    except UcError as error:
        return str(error), None
    return machine.reg_read(UC_X86_REG_EAX), machine.reg_read(UC_X86_REG_ECX)

print("CPUID 8000_0001 ecx bit 2, SVM:", run("b801000080 0fa2")[1] >> 2 & 1)
print("EFER:", hex(run(SET_SVME + "0f32")[0]))
for name, code in (("stgi", "0f01dc"), ("clgi", "0f01dd"), ("vmmcall", "0f01d9")):
    print(name, run(SET_SVME + code)[0])
print("no model, CPUID 1 eax:", hex(run("b801000000 0fa2", None)[0]))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
CPUID 8000_0001 ecx bit 2, SVM: 1
EFER: 0x1500
stgi Invalid instruction (UC_ERR_INSN_INVALID)
clgi Invalid instruction (UC_ERR_INSN_INVALID)
vmmcall Invalid instruction (UC_ERR_INSN_INVALID)
no model, CPUID 1 eax: 0x306c4
END
if ! diff -u noted seen; then
    echo 'CHANGED: unicorn treats SVM in another way' >&2
    exit 1
fi
cat seen
