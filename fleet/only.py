# SPDX-License-Identifier: GPL-2.0-or-later
"""A pytest plugin that keeps one slice of the claims; what judges the whole run stays in every slice."""

from __future__ import annotations

import pytest

from host_setup.plugin import LAST


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the slice."""
    parser.getgroup("sealproof").addoption(
        "--only-slice", metavar="NUMBER/OF", help="run every OF-th claim, starting with claim NUMBER, counted from 1"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect all other slices."""
    words: str | None = config.getoption("--only-slice")
    if not words:
        return
    number, _, of = words.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise pytest.UsageError(f"--only-slice {words}: give NUMBER/OF, for instance 2/3")
    cut = [item for item in items if item.get_closest_marker(LAST) is None]
    chosen = cut[int(number) - 1 :: int(of)]
    others = [item for item in cut if item not in chosen]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
