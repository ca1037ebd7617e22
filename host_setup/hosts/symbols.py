# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in the source a kernel's trace leads: ``function+0x12/0x40`` gets its file and line, from vmlinux.

A kernel's own scripts/decode_stacktrace.sh does the same, with a process for each line.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from common.commands import output

STAGE = "symbols"
_PLACE = re.compile(r"(RIP: 0010:)?\b([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x([0-9a-f]++)(?! \[)")
_CODE = frozenset("tTwW")  # nm(1): symbols in the text section


def with_places(text: str, vmlinux: Path) -> str:
    """A kernel's message with the source's file and line behind each function that has one.

    What is in a module stays as it is. So does a name that several functions have.

    :raises SealproofError: nm or addr2line fails.
    """
    places = {match[0]: match for match in _PLACE.finditer(text)}
    addresses = _functions(vmlinux, {match[2] for match in places.values()})
    # What a trace holds are return addresses: the call is right before. RIP is where it happened.
    lookups = {
        place: addresses[match[2]] + int(match[3], 16) - (0 if match[1] else 1)
        for place, match in places.items()
        if match[2] in addresses
    }
    if not lookups:
        return text
    words = ["addr2line", "--exe", str(vmlinux), *map(hex, lookups.values())]
    lines = output(words, stage=STAGE).decode(errors="replace").splitlines()
    where = {place: line for place, line in zip(lookups, map(_source, lines), strict=False) if line}
    return _PLACE.sub(lambda match: f"{match[0]} ({where[match[0]]})" if match[0] in where else match[0], text)


def _functions(vmlinux: Path, names: set[str]) -> dict[str, int]:
    """The addresses of functions by name; none of a name that is not unique."""
    addresses: dict[str, list[int]] = defaultdict(list)
    for line in output(["nm", str(vmlinux)], stage=STAGE).decode(errors="replace").splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in _CODE and words[2] in names:
            addresses[words[2]].append(int(words[0], 16))
    return {name: addresses[0] for name, addresses in addresses.items() if len(addresses) == 1}


def _source(line: str) -> str:
    """File and line, without the name that the source's folder had, as addr2line tells them; empty if it cannot."""
    file, _, rest = line.partition(":")
    number = rest.split()[:1]
    if file == "??" or not number or not number[0].isdigit() or number[0] == "0":
        return ""
    return f"{file.removeprefix('/linux/').removeprefix('./')}:{number[0]}"
