# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports an unexpected exception: in one line, with its traceback in a file."""

from __future__ import annotations

import tempfile
import traceback
from pathlib import Path

from common.errors import SealproofError

TRACEBACK = "traceback.txt"


def describe(error: BaseException, folder: Path | None = None) -> str:
    """Describe an exception for a person: our errors in their own words, any other in one line.

    :param folder: takes the traceback, and is made when missing; None, or one that cannot be written: a temporary file.
    """
    text = "".join(traceback.format_exception(error))
    file = _keep(text, folder)
    if isinstance(error, SealproofError):
        return f"{error}\n  traceback: {file}"
    sentence = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}{': ' if sentence else ''}{sentence} (traceback: {file})"


def _keep(text: str, folder: Path | None) -> str:
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / TRACEBACK).write_text(text, encoding="utf-8", errors="backslashreplace")
            return str(folder / TRACEBACK)
    except OSError:
        pass  # the disk may be what is wrong
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="sealproof-", suffix=f"-{TRACEBACK}", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
            return file.name
    except OSError as error:
        return f"it cannot be written: {error}"
