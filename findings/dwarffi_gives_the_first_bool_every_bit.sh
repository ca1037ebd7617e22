#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: dwarffi 0.0.39 (PyPI), with the dwarf2json that it ships, on a program that gcc compiles.
# Guess: of "bool a : 1, b : 1, c : 1" each is read as its bit, and a store to one leaves the others.
# Seen: if any bit of the byte is set, the first member is -1, which is neither True nor 1, and the others are 0. After
#       a store of True to the third the byte is 001, so its own bit is clear and the others are lost; there is no
#       error. Three bits of type "unsigned char" are read and stored as they are.
# Matters: Linux has such members, as in struct dev_pm_info: what is read of a kernel's memory is another state, and who
#          makes a test's bytes this way has others.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dwarffi==0.0.39

cat > program.c <<'END'
#include <stdbool.h>

struct bools {
    bool a : 1, b : 1, c : 1;
} bools = {.b = true};

struct chars {
    unsigned char a : 1, b : 1, c : 1;
} chars;

int main(void)
{
    return bools.b + chars.b;
}
END
gcc -g -o program program.c
dwarf2json=$(echo venv/lib/python3*/site-packages/dwarffi/bin/dwarf2json)
"$dwarf2json" linux --elf program > program.json 2> messages

cat > probe.py <<'END'
from dwarffi import DFFI

types = DFFI("program.json")
for byte in (0b010, 0b101):
    for name in ("struct chars", "struct bools"):
        value = types.from_buffer(name, bytearray([byte]))
        print(f"{name} of {byte:03b}: a is {value.a}, b {value.b}, c {value.c}", end="; ")
        value.c = True
        print(f"c is set: {bytes(value)[0]:03b}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
struct chars of 010: a is 0, b 1, c 0; c is set: 110
struct bools of 010: a is -1, b 0, c 0; c is set: 001
struct chars of 101: a is 1, b 0, c 1; c is set: 101
struct bools of 101: a is -1, b 0, c 0; c is set: 001
END
if ! diff -u noted seen; then
    echo 'CHANGED: dwarffi, or dwarf2json, treats bool bit-fields in another way' >&2
    exit 1
fi
cat seen
