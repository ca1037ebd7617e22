# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel's top Makefile says of itself."""

from __future__ import annotations

import re


def release(makefile: str) -> str | None:
    """The release that the Makefile's first lines state, for instance ``6.13.0-rc1``.

    :returns: None if it is not a kernel's. (U-Boot's has the same first lines, but no KERNELVERSION.)
    """
    fields: dict[str, str] = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)[ \t]*\r?$", makefile, re.MULTILINE)
    )
    numbers = [fields.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not all(number.isdigit() for number in numbers) or not re.search(r"^KERNELVERSION\s*=", makefile, re.MULTILINE):
        return None
    return ".".join(numbers) + fields.get("EXTRAVERSION", "")
