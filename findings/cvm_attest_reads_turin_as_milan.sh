#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: cvm-attest 1.0.0 (PyPI), against dk-tee-attestation 0.6.5.
# Guess: a parser of SEV-SNP reports that names Milan, Genoa and Turin reads the TCB version by the processor's family,
#        which the report has since its version 3.
# Seen: Turin (family 1Ah) has FMC, boot loader, TEE and SNP in bytes 0 to 3, as AMD's SEV-SNP ABI specification says;
#       Milan and Genoa have boot loader and TEE in 0 and 1, and SNP in 6. cvm-attest reads every report as Milan's: the
#       boot loader's number is FMC's, TEE's is the boot loader's, and SNP's is always 0.
# Matters: whoever keeps the firmware levels of a fleet, or asks AMD for the key's certificate, which goes by these
#          four numbers.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cvm-attest==1.0.0 dk-tee-attestation==0.6.5

cat > probe.py <<'END'
import struct

from cvm_attest.snp.report import parse_snp_report
from dk_tee_attestation import tee_rust_py_wrap

MILAN = (0x19, 0x01, bytes((1, 2, 0, 0, 0, 0, 3, 8)))
TURIN = (0x1A, 0x02, bytes((9, 1, 2, 3, 0, 0, 0, 8)))
for name, (family, model, tcb) in (("Milan", MILAN), ("Turin", TURIN)):
    report = bytearray(1184)
    struct.pack_into("<IIQ", report, 0, 3, 0, 0x30000)  # version, guest's SVN, policy
    struct.pack_into("<I", report, 0x34, 1)  # ECDSA P-384 with SHA-384
    report[0x180:0x188] = tcb  # REPORTED_TCB
    report[0x188:0x18B] = bytes((family, model, 1))
    one = parse_snp_report(bytes(report))["reported_tcb"]
    other = tee_rust_py_wrap.parse_report(bytes(report))["reported_tcb"]
    print(f"{name}, cvm-attest: boot loader {one['boot_loader']}, TEE {one['tee']}, SNP {one['snp']}, "
          f"microcode {one['microcode']}")
    print(f"{name}, dk-tee-attestation: boot loader {other['bootloader']}, TEE {other['tee']}, SNP {other['snp']}, "
          f"microcode {other['microcode']}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
Milan, cvm-attest: boot loader 1, TEE 2, SNP 3, microcode 8
Milan, dk-tee-attestation: boot loader 1, TEE 2, SNP 3, microcode 8
Turin, cvm-attest: boot loader 9, TEE 1, SNP 0, microcode 8
Turin, dk-tee-attestation: boot loader 1, TEE 2, SNP 3, microcode 8
END
if ! diff -u noted seen; then
    echo 'CHANGED: cvm-attest or dk-tee-attestation reads the TCB version in another way' >&2
    exit 1
fi
cat seen
