#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: jc 1.26.1 (PyPI), --proc-vmallocinfo.
# Guess: what is written on a line of /proc/vmallocinfo is in the object of that line.
# Seen: what has the form name=value, the pages, the pages of each node and the physical address, goes to the object of
#       the line before: each area has the next one's. What stands on the first line is lost, and the last object has
#       none. Addresses, size, caller and the words without "=" are where they should be.
# Matters: who looks up what physical memory a driver maps, or sums up pages by caller: the numbers are a neighbour's.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jc==1.26.1

cat > vmallocinfo <<'END'
0xffffc90000000000-0xffffc90000005000   20480 kernel_clone+0xb8/0x400 pages=4 vmalloc N0=4
0xffffc90000005000-0xffffc90000007000    8192 acpi_os_map_iomem+0x1bc/0x1e0 phys=0x00000000000a0000 ioremap
0xffffc90000008000-0xffffc9000000a000    8192 pci_ioremap_bar+0x48/0x60 phys=0x00000000fe800000 ioremap
0xffffc90000010000-0xffffc90000014000   16384 module_alloc+0x5e/0xc0 pages=3 vmalloc N1=3
END
cat > probe.py <<'END'
import pathlib

import jc

text = pathlib.Path("vmallocinfo").read_text()
for line, area in zip(text.splitlines(), jc.parse("proc_vmallocinfo", text), strict=True):
    print(" ".join(word for word in line.split() if "+" in word or "=" in word))
    print("  ", {key: value for key, value in area.items() if key in ("caller", "pages", "phys", "N0", "N1")})
END
venv/bin/python probe.py > seen

cat > noted <<'END'
kernel_clone+0xb8/0x400 pages=4 N0=4
   {'caller': 'kernel_clone+0xb8/0x400', 'phys': '0x00000000000a0000'}
acpi_os_map_iomem+0x1bc/0x1e0 phys=0x00000000000a0000
   {'caller': 'acpi_os_map_iomem+0x1bc/0x1e0', 'phys': '0x00000000fe800000'}
pci_ioremap_bar+0x48/0x60 phys=0x00000000fe800000
   {'caller': 'pci_ioremap_bar+0x48/0x60', 'pages': 3, 'N1': 3}
module_alloc+0x5e/0xc0 pages=3 N1=3
   {'caller': 'module_alloc+0x5e/0xc0'}
END
if ! diff -u noted seen; then
    echo 'CHANGED: jc reads /proc/vmallocinfo in another way' >&2
    exit 1
fi
cat seen
