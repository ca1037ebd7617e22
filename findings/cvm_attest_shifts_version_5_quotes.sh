#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: cvm-attest 1.0.0 (PyPI), against dcap-qvl 0.7.0.
# Guess: a TDX quote of version 5, which hosts with TDX 1.5 make, is parsed as what it is, or refused; the header is the
#        same in 4 and 5.
# Seen: version 5 has the type and the size of its body, 6 bytes, in front of the body. cvm-attest reads over them: each
#       measurement, MRTD and the RTMRs too, begins with the last 6 bytes of the field before. It reports version 5 and
#       raises nothing. The vendor's UUID is 2 bytes off in both versions.
# Matters: whoever compares MRTD with the value of a build, or keeps the numbers as evidence: they are no numbers of
#          the machine.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cvm-attest==1.0.0 dcap-qvl==0.7.0

cat > probe.py <<'END'
import struct

import dcap_qvl
from cvm_attest.tdx.quote import parse_td_quote

INTEL = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SIZES = (16, 48, 48, 8, 8, 8, 48, 48, 48, 48, 48, 48, 48, 48, 64)  # of the body's fields; MRTD 7th, RTMR0 11th
BODY = b"".join(bytes([number]) * size for number, size in enumerate(SIZES, 1))
# The signature's data: a signature, a key, and the quoting enclave's report with a certificate. Nothing is verified.
enclave = bytes(384 + 64) + struct.pack("<HHI", 0, 5, 4) + b"cert"
signature = bytes(128) + struct.pack("<HI", 6, len(enclave)) + enclave
signature = struct.pack("<I", len(signature)) + signature

for version, between in ((4, b""), (5, struct.pack("<HI", 2, len(BODY)))):
    quote = struct.pack("<HHIHH", version, 2, 0x81, 0, 0) + INTEL + bytes(20) + between + BODY + signature
    parsed = parse_td_quote(quote)
    other = dcap_qvl.Quote.parse(quote)
    print(f"version {parsed['header']['version']}: vendor {parsed['header']['vendor_id']}")
    for name, theirs in (("mrtd", other.report.mr_td), ("rtmr0", other.report.rt_mr0)):
        print(f"  {name}: cvm-attest {parsed['body'][name][:16]}, dcap-qvl {theirs.hex()[:16]}")
    print(f"  signature data: cvm-attest {parsed['signature_data_size']} of {len(signature) - 4} bytes")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
version 4: vendor 0000939a7233f79c4ca9940a0db3957f
  mrtd: cvm-attest 0707070707070707, dcap-qvl 0707070707070707
  rtmr0: cvm-attest 0b0b0b0b0b0b0b0b, dcap-qvl 0b0b0b0b0b0b0b0b
  signature data: cvm-attest 594 of 594 bytes
version 5: vendor 0000939a7233f79c4ca9940a0db3957f
  mrtd: cvm-attest 0606060606060707, dcap-qvl 0707070707070707
  rtmr0: cvm-attest 0a0a0a0a0a0a0b0b, dcap-qvl 0b0b0b0b0b0b0b0b
  signature data: cvm-attest 252645135 of 594 bytes
END
if ! diff -u noted seen; then
    echo 'CHANGED: cvm-attest or dcap-qvl parses quotes in another way' >&2
    exit 1
fi
cat seen
