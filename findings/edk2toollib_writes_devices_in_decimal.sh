#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: edk2-pytool-library 0.23.17 (PyPI), edk2toollib.acpi.dmar_parser.
# Guess: the path of a device in Intel's table of IOMMUs is written as lspci and Linux write it, in hexadecimal; the
#        XML tells which device a memory region is for, and can be read.
# Seen: bus, device and function are decimal: 00:1d.0 is 00:29.0, and bus 0x64 is 100. The bus stands in hexadecimal on
#       the line before. The XML has no path at all: two devices of one bus are the same element. The names of its
#       elements have spaces, so no parser takes it, ElementTree, which wrote it, neither.
# Matters: who compares a reserved region's device with lspci: 00:10.0 is another device, which may exist as well.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check edk2-pytool-library==0.23.17

cat > probe.py <<'END'
import struct
import xml.etree.ElementTree as ET

from edk2toollib.acpi.dmar_parser import DMARTable


def scope(bus, device, function):
    return struct.pack("<BBHBBBB", 1, 8, 0, 0, bus, device, function)


scopes = scope(0x00, 0x1D, 0) + scope(0x64, 0x10, 1) + scope(0x64, 0x1A, 7)
region = struct.pack("<HHHHQQ", 1, 24 + len(scopes), 0, 0, 0x7C000000, 0x7CFFFFFF) + scopes
body = struct.pack("<BB10s", 38, 1, bytes(10)) + region
data = struct.pack("<4sIBB6s8sI4sI", b"DMAR", 36 + len(body), 1, 0, b"SAMPLE", b"SAMPLE  ", 1, b"TEST", 1) + body
parsed = DMARTable(data[:9] + bytes([-sum(data) & 0xFF]) + data[10:])
print("00:1d.0, 64:10.1 and 64:1a.7:", parsed.dmar_table.RMRRlist[0].getPath())
for line in str(parsed).splitlines():
    if "Start Bus" in line or "Path" in line:
        print(" ".join(line.split()))
for element in parsed.xml.find("RMRR"):
    print(ET.tostring(element).decode())
try:
    ET.fromstring(ET.tostring(parsed.xml))
except ET.ParseError as error:
    print("read back:", error)
END
venv/bin/python probe.py > seen

cat > noted <<'END'
00:1d.0, 64:10.1 and 64:1a.7: 00:29.0, 100:16.1, 100:26.7
Start Bus Number : 0x00
Path : 00:29.0
Start Bus Number : 0x64
Path : 100:16.1
Start Bus Number : 0x64
Path : 100:26.7
<PCI Endpoint Device Type="0x1" Length="0x8" Reserved="0x0" EnumerationID="0x0" StartBusNumber="0x0" />
<PCI Endpoint Device Type="0x1" Length="0x8" Reserved="0x0" EnumerationID="0x0" StartBusNumber="0x64" />
<PCI Endpoint Device Type="0x1" Length="0x8" Reserved="0x0" EnumerationID="0x0" StartBusNumber="0x64" />
read back: not well-formed (invalid token): line 1, column 11
END
if ! diff -u noted seen; then
    echo 'CHANGED: edk2toollib writes the devices of a DMAR table in another way' >&2
    exit 1
fi
cat seen
