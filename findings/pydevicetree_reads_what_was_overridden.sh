#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: pydevicetree 0.0.13 (PyPI), with pyparsing 3.3.3.
# Guess: a property that is set again, by a reference as board files do, has its last value; what /delete-node/ and
#        /delete-property/ name is gone. The Devicetree specification says so, and dtc does it.
# Seen: get_field() has the first value: a UART that the board enables is "disabled". The deleted node and property are
#       there. to_dts() writes both values one after the other.
# Matters: scripts that ask a tree which devices and which memory a machine has: they see the include file's and not the
#          board's. Ask the blob that dtc makes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pydevicetree==0.0.13 pyparsing==3.3.3
version=1.6.1-4+b1
apt-get -qq -o APT::Sandbox::User=root download device-tree-compiler="$version" libfdt1="$version" libyaml-0-2=0.2.5-1
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"

cat > board.dts <<'END'
/dts-v1/;
/ {
    console: uart@0 { reg = <1 2>; status = "disabled"; };
    spare: uart@8 { reg = <8 2>; dma; };
    gone { };
};
&console { status = "okay"; };
/ { /delete-node/ gone; };
&spare { /delete-property/ dma; };
END
root/usr/bin/dtc -q -I dts -O dtb -o board.dtb board.dts
{
    echo "dtc: $(root/usr/bin/fdtget board.dtb /uart@0 status), $(root/usr/bin/fdtget -l board.dtb / | xargs),"\
         "$(root/usr/bin/fdtget -p board.dtb /uart@8 | xargs)"
} > seen
cat > probe.py <<'END'
from pydevicetree import Devicetree

tree = Devicetree.from_dts(open("board.dts", encoding="ascii").read())
nodes = [path.strip("/") for path in ("/uart@0", "/uart@8", "/gone") if tree.get_by_path(path)]
properties = [found.name for found in tree.get_by_path("/uart@8").properties]
status = tree.get_by_path("/uart@0").get_field("status")
print(f"pydevicetree: {status}, {' '.join(nodes)}, {' '.join(properties)}")
END
venv/bin/python probe.py >> seen

cat > noted <<'END'
dtc: okay, uart@0 uart@8, reg
pydevicetree: disabled, uart@0 uart@8 gone, reg dma
END
if ! diff -u noted seen; then
    echo 'CHANGED: pydevicetree overrides in another way' >&2
    exit 1
fi
cat seen
