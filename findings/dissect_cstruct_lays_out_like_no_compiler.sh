#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dissect.cstruct 4.7 (PyPI).
# Guess: a structure pasted from a C header is laid out as a 64-bit compiler does, or as 32-bit when one says so.
# Seen: structures are packed unless load() is told align=True; a pointer has 8 bytes but "unsigned long" has 4
#       and wchar_t 2, as on Windows, which no option changes; size_t and bool are unknown.
# Matters: whoever reads kernel structures (struct page, setup_data, a vmcore's notes) from a dump with it: every
#          offset after the first long is wrong and nothing fails. Use uint64_t, and align=True.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dissect.cstruct==4.7

cat > probe.py <<'END'
from dissect.cstruct import ResolveError, cstruct

C = "struct s { char tag; unsigned long flags; void *next; };"
print("packed by default:", len(cstruct().load(C).s))
print("with align=True:", len(cstruct().load(C, align=True).s), "(x86-64 Linux: 24)")
for name in ("unsigned long", "wchar_t", "size_t", "bool"):
    try:
        print(name, len(cstruct().load("struct s { %s x; };" % name).s))
    except ResolveError:
        print(name, "unknown")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
packed by default: 13
with align=True: 16 (x86-64 Linux: 24)
unsigned long 4
wchar_t 2
size_t unknown
bool unknown
END
if ! diff -u noted seen; then
    echo 'CHANGED: dissect.cstruct lays out these structures in another way' >&2
    exit 1
fi
cat seen
