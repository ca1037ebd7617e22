#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: fdt 0.3.3 (PyPI, pure Python).
# Guess: device tree source is free-form: a node on one line, "/ { a = <1>; };", parses like one on several, or
#        is a syntax error.
# Seen: parse_dts() works by lines: a node that opens and closes on one line is dropped with all in it, and so
#       is all that follows in its parent. There is no error; the tree is just smaller.
# Matters: harnesses that template a device tree for a machine: the machine boots without the device. Compile with
#          dtc.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fdt==0.3.3

cat > probe.py <<'END'
import fdt

spread = """/dts-v1/;
/ {
    first = <1>;
    node {
        inner = <2>;
    };
    last = <3>;
};
"""
one_line = spread.replace("node {\n        inner = <2>;\n    };", "node { inner = <2>; };")
for name, source in (("spread", spread), ("one line", one_line)):
    tree = fdt.parse_dts(source)
    print(name, [p.name for p in tree.root.props], [n.name for n in tree.root.nodes])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
spread ['first', 'last'] ['node']
one line ['first'] []
END
if ! diff -u noted seen; then
    echo 'CHANGED: fdt parses a node on one line in another way' >&2
    exit 1
fi
cat seen
