# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of files for people to read: a file's name may be any bytes but ``/`` and NUL."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def path_text(path: Path | str) -> str:
    """A path for people to read, on one line: bytes that are no UTF-8, and control characters, are escaped."""
    text = os.fsencode(path).decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shell_word(text: str) -> str:
    """A word for a shell, in text that can be written and read; bash knows the form that odd ones need."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{path_text(escaped)}'"
