# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes ``host_setup/channels/uapi.py`` of ``sealproof_uapi.h``: numbers and layouts are stated once, in the header.

``python -m guest_images.interface`` writes it; a test holds that it is as the header says.
"""

from __future__ import annotations

import re
import struct
import sys

from common.paths import PROJECT

HEADER = PROJECT / "guest_images" / "modules" / "sealproof_uapi.h"
PYTHON = PROJECT / "host_setup" / "channels" / "uapi.py"
_CODES = {"__u32": "I", "__s32": "i", "__u64": "Q", "__s64": "q"}
_STRUCT = re.compile(r"^struct (sealproof_\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\t(__[us]\d+|struct sealproof_\w+) (\w+(?:, \w+)*)(?:\[(\w+)\])?;", re.MULTILINE)
_ENUM = re.compile(r"^enum (sealproof_\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
_VALUE = re.compile(r"^\tSEALPROOF_(\w+) = (\d+),", re.MULTILINE)
_IOCTL = re.compile(
    r"^#define SEALPROOF_(\w+)\s+_IO(WR)?\('S', (0x[0-9a-f]+)(?:, struct (sealproof_\w+))?\)", re.MULTILINE
)
_NUMBER = re.compile(r"^#define SEALPROOF_(\w+)\s+(\d+|0x[0-9a-f]+)(?:\s|$)", re.MULTILINE)
_LONG = 40  # codes: one with a list of others is for the programs alone
_READ_WRITE = 3  # asm-generic/ioctl.h


def python(header: str) -> str:
    """The module for a header of that form.

    :raises ValueError: a field or a structure is not understood.
    """
    numbers = {name: int(value, 0) for name, value in _NUMBER.findall(header)}
    layouts: dict[str, str] = {}
    for name, body in _STRUCT.findall(header):
        layouts[name] = "".join(_codes(line, layouts, numbers) for line in body.splitlines())
    lines = [
        "# SPDX-License-Identifier: GPL-2.0-or-later",
        '"""What our modules and Python agree on; ``python -m guest_images.interface`` makes it of the header."""',
        "",
        "from __future__ import annotations",
        "",
        "import struct",
        "from enum import IntEnum",
        "",
        *(f"{name} = {value}" for name, value in numbers.items()),
        "",
        *(
            f'{_constant(name)}_LAYOUT = struct.Struct("<{codes}")'
            for name, codes in layouts.items()
            if len(codes) < _LONG
        ),
        "",
        "# ioctl numbers",
        *(_ioctl(match, layouts) for match in _IOCTL.finditer(header)),
    ]
    for name, body in _ENUM.findall(header):
        words = f"``enum {name}``."
        lines += ["", "", f"class {_constant(name).title()}(IntEnum):", f'    """{words}"""', ""]
        lines += [f"    {member} = {value}" for member, value in _VALUE.findall(body)]
    return "\n".join([*lines, ""])


def _constant(name: str) -> str:
    return name.removeprefix("sealproof_").upper()


def _codes(line: str, layouts: dict[str, str], numbers: dict[str, int]) -> str:
    """The codes of Python's struct module for a line of a structure."""
    field = _FIELD.match(line)
    if field is None:
        raise ValueError(f"not a field: {line.strip()}")
    kind, names, count = field.groups()
    code = layouts[kind.removeprefix("struct ")] if kind.startswith("struct ") else _CODES[kind]
    times = numbers[count.removeprefix("SEALPROOF_")] if count else 1
    return code * (len(names.split(", ")) * times)


def _ioctl(definition: re.Match[str], layouts: dict[str, str]) -> str:
    """As ``_IO`` and ``_IOWR`` make it (asm-generic/ioctl.h)."""
    name, reads_and_writes, number, of = definition.groups()
    size = struct.calcsize(f"<{layouts[of]}") if of else 0
    value = (_READ_WRITE if reads_and_writes else 0) << 30 | size << 16 | ord("S") << 8 | int(number, 16)
    return f"{name} = 0x{value:X}"


if __name__ == "__main__":
    PYTHON.write_text(python(HEADER.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PYTHON}\n")
