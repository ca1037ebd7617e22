# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof signoff``: ``pytest tests_e2e``, and nothing else. The plugins add what is ours. Several kernels, or
several workers, are several runs (``cli.kernels``, ``cli.workers``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from cli import kernels, tests, workers

if TYPE_CHECKING:
    import pytest


def options_parser() -> argparse.ArgumentParser:
    """Our options as the plugins declare them, and those of pytest's own that are used most."""
    # pytest wants to be the first to import its plugins.
    from host_setup import plugin as machines  # noqa: PLC0415
    from signoff import plugin as judge  # noqa: PLC0415

    parser = argparse.ArgumentParser(usage="sealproof signoff [OPTIONS] [OPTIONS OF PYTEST]")
    adapter = cast("pytest.Parser", _Adapter(parser))
    judge.pytest_addoption(adapter)
    machines.pytest_addoption(adapter)
    parser.add_argument(
        "--workers",
        metavar="N",
        default=workers.DEFAULT,
        help="number of runs at the same time on this machine, each of a share of the claims, or auto: as many as pay "
        f"here; each takes about 3 GiB of memory; default: {workers.DEFAULT}",
    )
    own = parser.add_argument_group("pytest's own, among others (pytest --help)")
    own.add_argument("-k", metavar="EXPRESSION", help="only claims whose name fits; every other claim is MISS")
    own.add_argument("-m", metavar="MARKERS", help="only claims with these markers, for instance: quick")
    own.add_argument("-x", "--exitfirst", action="store_true", help="end at the first failure")
    own.add_argument("-v", "--verbose", action="store_true", help="a line for each claim")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the claims; returns the exit status of the verdict."""
    names, words = kernels.split_kernels(argv)
    if len(names) > 1:
        return kernels.run(names, words)
    number, words = workers.split_workers(argv)
    if number > 1:
        return workers.run(number, words)
    return tests.main(["tests_e2e", *words])


class _Adapter:
    """Takes for argparse what a pytest plugin declares."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._group = parser.add_argument_group("sealproof")

    def getgroup(self, *_: str) -> _Adapter:
        return self

    def addoption(self, *names: str, **attributes: Any) -> None:
        self._group.add_argument(*names, **attributes)

    def addini(self, *_: str, **__: str) -> None:
        """No option of the command line."""
