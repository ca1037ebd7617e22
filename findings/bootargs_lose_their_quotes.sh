#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: fdt 0.3.3 and pyfdt 0.3 (PyPI), with pylibfdt 1.7.2.post2.
# Guess: a kernel command line with quotes, as dyndbg="file kvm* +p" in /chosen/bootargs, survives the way from a
#        blob to source and back; the Devicetree specification has the escapes of C for strings.
# Seen: fdt writes \" and reads it as \ alone; it takes a semicolon out of a string as well. pyfdt writes the quotes
#       as they are, so that the string ends at the first. Neither raises.
# Matters: harnesses that read the device tree of a machine, change it and give it back: the guest boots with another
#          command line, or dtc refuses the source.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fdt==0.3.3 pyfdt==0.3 pylibfdt==1.7.2.post2

cat > probe.py <<'END'
import fdt
import libfdt
from pyfdt.pyfdt import FdtBlobParse

LINE = 'dyndbg="file kvm* +p; func x +p"'
tree = libfdt.FdtSw()
tree.finish_reservemap()
tree.begin_node("")
tree.property_string("bootargs", LINE)
tree.end_node()
blob = tree.as_fdt()
blob.pack()
with open("blob", "wb") as file:
    file.write(blob.as_bytearray())

print("in the blob:", LINE)
source = fdt.parse_dtb(bytes(blob.as_bytearray())).to_dts()
print("fdt writes:", source.split("bootargs = ")[1].splitlines()[0])
print("fdt reads that as:", fdt.parse_dts(source).root.props[0].value)
with open("blob", "rb") as file:
    source = FdtBlobParse(file).to_fdt().to_dts()
print("pyfdt writes:", source.split("bootargs = ")[1].splitlines()[0])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
in the blob: dyndbg="file kvm* +p; func x +p"
fdt writes: "dyndbg=\"file kvm* +p; func x +p\"";
fdt reads that as: dyndbg=\file kvm* +p func x +p\
pyfdt writes: "dyndbg="file kvm* +p; func x +p"";
END
if ! diff -u noted seen; then
    echo 'CHANGED: fdt or pyfdt treats strings in another way' >&2
    exit 1
fi
cat seen
