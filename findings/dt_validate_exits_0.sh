#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dtschema 2026.9 (PyPI), with pylibfdt 1.7.2.post2.
# Guess: dt-validate exits with a status other than 0 when a device tree breaks a schema, and when it cannot find the
#        file; its sister dt-doc-validate does.
# Seen: both exit with 0. The broken tree has its errors on stderr; for a file that is not there, nothing is
#       printed at all.
# Matters: a CI job that validates the device tree of a machine, or the dump of QEMU's: it stays green whatever the
#          tree is, and when the tree was never built. Read stderr, or the file of --json-output.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dtschema==2026.9 pylibfdt==1.7.2.post2

cat > make.py <<'END'
import libfdt

tree = libfdt.Fdt.create_empty_tree(4096)
tree.setprop_str(0, "compatible", "vendor,board")
with open("broken.dtb", "wb") as file:  # a root node needs model, #address-cells and #size-cells
    file.write(tree.as_bytearray())
END
venv/bin/python make.py
for file in broken.dtb missing.dtb; do
    status=0
    venv/bin/dt-validate "$file" > out 2> errors || status=$?
    echo "$file: exit status $status, $(grep -c 'is a required property' errors) missing, $(wc -l < errors) lines"
done > seen
status=0
venv/bin/dt-doc-validate missing.yaml > out 2> errors || status=$?
echo "dt-doc-validate: exit status $status" >> seen

cat > noted <<'END'
broken.dtb: exit status 0, 3 missing, 6 lines
missing.dtb: exit status 0, 0 missing, 0 lines
dt-doc-validate: exit status 1
END
if ! diff -u noted seen; then
    echo 'CHANGED: dt-validate has other exit statuses' >&2
    exit 1
fi
cat seen
