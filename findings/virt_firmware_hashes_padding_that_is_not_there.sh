#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: virt-firmware 26.10, against lief 1.0.0 (PyPI).
# Guess: the Authenticode digest of an EFI image is one number, whatever tool computes it.
# Seen: if the image's size is no multiple of 8, virt-firmware hashes zeros up to the next one, as hash-to-efi-sig-list
#       of efitools 1.9.2 does. lief, and pesign 0.112, hash the file as it is, and so does EDK2 itself
#       (DxeImageVerificationLib, HashPeImage: what is behind the sections, up to the file's end). Signing tools write
#       such zeros into the file, so a signed image has one digest.
# Matters: an unsigned image with data appended that is allowed by its digest, or whose PCR 4 is predicted: the firmware
#          has another number. Pad the file itself.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check lief==1.0.0 virt-firmware==26.10 pefile==2024.8.26

cat > probe.py <<'END'
import struct

import lief
import pefile
from virt.peutils import pesign

head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
head += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22E)
head += struct.pack("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII", 0x20B, 0, 0, 512, 0, 0, 4096, 4096, 0, 4096, 512, 0, 0, 0, 0, 0,
                    0, 0, 8192, 512, 0, 10, 0, 0, 0, 0, 0, 0, 16) + bytes(128)
head += struct.pack("<8sIIIIIIHHI", b".text", 512, 4096, 512, 512, 0, 0, 0, 0, 0x60000020)
image = head.ljust(512, b"\0") + b"\xc3" * 512
for what, extra in (("0 bytes", b""), ("5 bytes", b"12345"), ("8 bytes", b"12345678"),
                    ("5 bytes and 3 zeros", b"12345\0\0\0")):
    data = image + extra
    digest = lief.PE.parse(list(data)).authentihash_sha256.hex()
    other = pesign.pe_authenticode_hash(pefile.PE(data=data)).hex()
    print(f"{what} appended: lief {digest[:8]}, virt-firmware {other[:8]}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
0 bytes appended: lief 66ef8190, virt-firmware 66ef8190
5 bytes appended: lief 4be2982f, virt-firmware d9f4bac3
8 bytes appended: lief f9c22380, virt-firmware f9c22380
5 bytes and 3 zeros appended: lief d9f4bac3, virt-firmware d9f4bac3
END
if ! diff -u noted seen; then
    echo 'CHANGED: lief or virt-firmware hashes unaligned images in another way' >&2
    exit 1
fi
cat seen
