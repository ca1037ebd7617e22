#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: edk2-pytool-library 0.23.17 (PyPI), edk2toollib.acpi.ivrs_parser.
# Guess: the parser of AMD's table of IOMMUs shows what is in the table; one that it cannot use raises.
# Seen: the length of each memory block that devices may reach without translation is shown as its type, 0x20 to 0x22.
#       The object and the XML have the length. A device that is selected by its number is called "Reserved", in the
#       XML too. In a table without the bit DmaRemapSup, as QEMU makes it (IVinfo is 40 << 8), the constructor ends the
#       whole process by sys.exit(-1), with no word.
# Matters: who audits what memory a device can reach behind an IOMMU, by the text: 16 MiB look like 32 bytes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check edk2-pytool-library==0.23.17

cat > probe.py <<'END'
import struct
import xml.etree.ElementTree as ET

from edk2toollib.acpi.ivrs_parser import IVRS_TABLE


def table(info):
    select = struct.pack("<BHB", 2, 0x00A0, 0)  # the device 00:14.0
    iommu = struct.pack("<BBHHHQHHI", 0x10, 0, 24 + len(select), 2, 0x40, 0xFED80000, 0, 0, 0) + select
    memory = struct.pack("<BBHHHQQQ", 0x20, 0b111, 32, 0, 0, 0, 0x7C000000, 16 << 20)  # all devices read and write
    body = struct.pack("<IQ", info, 0) + iommu + memory
    data = struct.pack("<4sIBB6s8sI4sI", b"IVRS", 36 + len(body), 2, 0, b"SAMPLE", b"SAMPLE  ", 1, b"TEST", 1) + body
    return data[:9] + bytes([-sum(data) & 0xFF]) + data[10:]


parsed = IVRS_TABLE(table(40 << 8 | 2))
print(f"the object: {parsed.IVMD_list[0].IVMDMemoryBlockLength:#x}")
root = parsed.ToXmlElementTree()
print("the XML:", root.find("IVMD").get("IVMDMemoryBlockLength"))
print("the XML:", ET.tostring(root.find("IVHD")[0]).decode())
parsed.DumpInfo()
try:
    IVRS_TABLE(table(40 << 8))
except SystemExit as end:
    print(f"without DmaRemapSup: exit {end.code}")
END
venv/bin/python probe.py | grep -E 'the XML|the object|Reserved$|Memory Block|without' > seen

cat > noted <<'END'
the object: 0x1000000
the XML: 0x1000000
the XML: <Reserved Type="0x2" DeviceID="0xA0" DTESetting="0x0" />
		  Reserved
	IVMD Memory Block Length             : 0x0000000000000020
without DmaRemapSup: exit -1
END
if ! diff -u noted seen; then
    echo 'CHANGED: edk2toollib shows the IVRS table in another way' >&2
    exit 1
fi
cat seen
