#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: py-dmidecode 0.1.3 (PyPI).
# Guess: of a processor, Flags has dmidecode's list of flags and Characteristics has the other list; total_ram() counts
#        a module of 1 TB as 1024 GB.
# Seen: both keys have the same list, which is flags and characteristics together: the list of a structure is never
#       begun anew. A module whose size dmidecode prints in TB counts as 0, and a value with ": " in it is cut at the
#       last one, so its key is wrong.
# Matters: inventories of hosts: a processor seems to have a flag, or to be capable of something, by the name alone; a
#          machine with large modules has no memory.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check py-dmidecode==0.1.3

cat > probe.py <<'END'
from dmidecode import DMIParse

TEXT = """# dmidecode 3.4
Getting SMBIOS data from sysfs.
SMBIOS 3.3.0 present.

Handle 0x0400, DMI type 4, 48 bytes
Processor Information
	Socket Designation: CPU 0
	Flags:
		FPU (Floating-point unit on-chip)
		VME (Virtual mode extension)
	Core Enabled: 8
	Characteristics:
		64-bit capable
		Execute Protection

Handle 0x0B00, DMI type 11, 5 bytes
OEM Strings
	String 1: build: nightly

Handle 0x1100, DMI type 17, 92 bytes
Memory Device
	Size: 1 TB
	Locator: DIMM 0

Handle 0x1101, DMI type 17, 92 bytes
Memory Device
	Size: 16 GB
	Locator: DIMM 1
"""
machine = DMIParse(TEXT)
processor = machine.get("Processor")[0]
for key in ("Flags", "Characteristics"):
    print(key, [value.split(" (")[0] for value in processor[key]])
print("RAM in GB:", machine.total_ram())
print([item for item in machine.get("OEM Strings")[0].items() if item[0].startswith("String")])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
Flags ['FPU', 'VME', '64-bit capable', 'Execute Protection']
Characteristics ['FPU', 'VME', '64-bit capable', 'Execute Protection']
RAM in GB: 16
[('String 1: build', 'nightly')]
END
if ! diff -u noted seen; then
    echo 'CHANGED: py-dmidecode parses in another way' >&2
    exit 1
fi
cat seen
