#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: kconfiglib 14.1.0 (PyPI, the newest stable release).
# Guess: it reads the Kconfig files of today's kernels: that is what it is made for, and other projects' tools
#        pin it for that.
# Seen: since Linux 5.13 the symbol MODULES has the attribute "modules" instead of "option modules":
#       KconfigError, before a single symbol is read. Newer kernels' "transitional" and "depends on A if B" fail
#       likewise.
# Matters: any tool that pins kconfiglib from PyPI and meets a kernel's init/Kconfig of the last five years. Ask
#          the kernel's own scripts/kconfig.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check kconfiglib==14.1.0

cat > probe.py <<'END'
import kconfiglib

def parse(lines):
    with open("Kconfig", "w") as file:
        file.write('config MODULES\n\tbool "m"\n' + "".join(f"\t{line}\n" for line in lines))
    try:
        return sorted(symbol.name for symbol in kconfiglib.Kconfig("Kconfig").unique_defined_syms)
    except kconfiglib.KconfigError as error:
        return str(error).strip().split(": ", 1)[1]

print(parse(["option modules"]))
print(parse(["modules"]))
print(parse(["depends on A if B"]))
print(parse(["transitional"]))
END
venv/bin/python probe.py > seen

cat > noted <<'END'
['MODULES']
error: couldn't parse 'modules': unrecognized construct
error: couldn't parse 'depends on A if B': extra tokens at end of line
error: couldn't parse 'transitional': syntax error
END
if ! diff -u noted seen; then
    echo 'CHANGED: kconfiglib parses these attributes in another way' >&2
    exit 1
fi
cat seen
