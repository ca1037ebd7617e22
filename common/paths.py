# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are: the project's own files, and the cache of the user who runs it.

Standard library alone: ``make doctor`` uses it on a machine where nothing is installed yet.
"""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """The cache folder: ``sealproof`` below ``XDG_CACHE_HOME``, or ``~/.cache``.

    A relative ``XDG_CACHE_HOME`` does not count, as the XDG Base Directory Specification says.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "sealproof"
