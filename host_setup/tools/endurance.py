# SPDX-License-Identifier: GPL-2.0-or-later
"""What the long runs, soak and stress, have in common: what they tell in the end, and what stays of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.errors import SealproofError


@contextmanager
def reporting(name: str, lines: Callable[[], Sequence[str]], troubles: Callable[[], Sequence[str]]) -> Iterator[Path]:
    """A folder for the consoles of hosts. At the end the result is printed; the folder stays if something went wrong.

    Also of a run that is told to end: what went well by then took hours.

    :param lines: the result. :param troubles: what went wrong. The folder stays if there is any, or where an
        error ended the run: the first boot may have failed.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"sealproof-{name}-"))
    failed = False
    try:
        yield folder
    except SealproofError:
        failed = True
        raise
    finally:
        wrong = troubles()
        for line in [*lines(), *(f"\n{trouble}" for trouble in wrong)]:
            print(line)  # noqa: T201
        if (wrong or failed) and any(folder.iterdir()):
            print(f"\nthe hosts' consoles: {folder}")  # noqa: T201
        else:
            shutil.rmtree(folder, ignore_errors=True)
