# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings of hypothesis: a busy machine makes no example wrong, however long it takes."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sealproof", deadline=None)
settings.load_profile("sealproof")
