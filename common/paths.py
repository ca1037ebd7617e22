# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are: the project's own files, and the cache of the user who runs it."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path

PROJECT = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """The cache folder: ``sealproof`` below ``XDG_CACHE_HOME``, or ``~/.cache``."""
    return user_cache_path("sealproof", appauthor=False)
