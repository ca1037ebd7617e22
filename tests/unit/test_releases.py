# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from common import releases
from verifier import rows


@pytest.mark.parametrize(
    ("release", "text", "fits"),
    [
        ("6.12.117", ">=6.12.117,<6.13", True),
        ("6.12.107", ">=6.12.117,<6.13", False),
        ("7.3.4", "<8", True),
        ("7.0.0-rc1", "<7.0", False),
        ("7.0.0-rc1", ">=7.0", True),
        ("6.1.192", ">=6.2", False),
        ("6.12.0", "!=6.12", False),
        ("6.12.117-sealproof", "==6.12.117", True),
        ("6.12.9", " > 6.12.8 , <= 6.12.9", True),
    ],
)
def test_a_release_lies_in_a_range_or_not(release: str, text: str, *, fits: bool) -> None:
    assert releases.fits(release, text) is fits
    assert rows.lies_in(release, text) is fits


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (">=6.16", "<6.16", False),
        (">=6.16", "<=6.16", True),
        (">6.16", "<6.16.1", False),
        (">6.16", "<6.16.2", True),
        (">=6.12,<6.13", ">=6.13,<6.16", False),
        (">=6.12,<6.13", ">=6.12.117,<6.16", True),
        ("<6.12", "<6.1", True),
        ("<0.0.1", "!=0", False),
        ("==6.12.5", "!=6.12.5", False),
        ("==6.12.5", ">6.12.4,<6.12.6", True),
        (">=6.13,<6.12", ">=0", False),
        (">=6.12,!=6.12,!=6.12.1", "<6.12.2", False),
        (">=6.12,!=6.12,!=6.12.1", "<=6.12.2", True),
    ],
)
def test_two_ranges_have_a_release_in_common_or_not(first: str, second: str, *, both: bool) -> None:
    for texts in ((first, second), (second, first)):
        assert releases.meet(*texts) is both
        assert rows.meet(*texts) is both


@pytest.mark.parametrize("text", ["", "6.12", ">=6.12,", "~=6.12", "==6.12.*", ">=6.12 <6.13", ">=6.1.2.3"])
def test_what_is_no_range_is_none(text: str) -> None:
    for look in (releases.check, releases.meet, rows.meet):
        with pytest.raises(ValueError, match="range"):
            look(text)
