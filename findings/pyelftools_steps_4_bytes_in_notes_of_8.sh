#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: pyelftools 0.33 (PyPI).
# Guess: notes are read by the alignment of their section or segment, 4 or 8 bytes, as readelf does (binutils 2.40:
#        binutils/readelf.c, process_notes_at()); .note.gnu.property has 8 in files of 64 bits.
# Seen: it steps by 4 bytes whatever the alignment is. Behind a note that does not fill its last 8 bytes it reads the next
#       one 4 bytes too early, as one of another type without a name, and says nothing.
# Matters: tools that look for build IDs, features or registers of cores in files of other makers: the second note is
#          not found. Walk notes by the alignment.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyelftools==0.33

cat > probe.py <<'END'
import struct

from elftools.elf.elffile import ELFFile


def make(align: int) -> None:
    """An object file with one section of two notes of an owner ABC, each with 4 bytes."""
    notes = b""
    for kind, word in ((1, 0x11), (2, 0x22)):
        note = struct.pack("<III4sI", 4, 4, kind, b"ABC", word)
        notes += note.ljust(-(-len(note) // align) * align, b"\0")
    names = b"\0.note.test\0.shstrtab\0"
    at, names_at = 64, 64 + len(notes)
    table = -(-(names_at + len(names)) // 8) * 8
    header = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = (
        bytes(64),
        struct.pack("<IIQQQQIIQQ", 1, 7, 2, 0, at, len(notes), 0, 0, align, 0),
        struct.pack("<IIQQQQIIQQ", 12, 3, 0, 0, names_at, len(names), 0, 0, 1, 0),
    )
    with open("object", "wb") as file:
        file.write((header + notes + names).ljust(table, b"\0") + b"".join(sections))


for align in (4, 8):
    make(align)
    with open("object", "rb") as file:
        section = ELFFile(file).get_section_by_name(".note.test")
        found = [(note["n_name"], note["n_desc"]) for note in section.iter_notes()]
    print(f"alignment {align}: {found}")
END
venv/bin/python probe.py > seen

cat > noted <<'END'
alignment 4: [('ABC', b'\x11\x00\x00\x00'), ('ABC', b'"\x00\x00\x00')]
alignment 8: [('ABC', b'\x11\x00\x00\x00'), (None, b'\x02\x00\x00\x00')]
END
if ! diff -u noted seen; then
    echo 'CHANGED: pyelftools heeds the alignment of notes' >&2
    exit 1
fi
cat seen
