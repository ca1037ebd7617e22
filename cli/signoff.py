# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof signoff``: ``pytest tests_e2e``, and nothing else. The plugins add what is ours. Several kernels, or
several workers, are several runs (``cli.kernels``, ``cli.workers``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from cli import running, tests
from host_setup.kernel.source import OPTIONS

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
        default=tests.WORKERS,
        help="number of runs at the same time on this machine, each of a share of the claims, or auto: as many as pay "
        f"here; each takes about 3 GiB of memory; default: {tests.WORKERS}",
    )
    own = parser.add_argument_group("pytest's own, among others (pytest --help)")
    own.add_argument("-k", metavar="EXPRESSION", help="only claims whose name fits; every other claim is MISS")
    own.add_argument(
        "-m",
        metavar="MARKERS",
        help="only claims with these markers, for instance: quick, whose exit status is that of the list",
    )
    own.add_argument("-x", "--exitfirst", action="store_true", help="end at the first failure")
    own.add_argument("-v", "--verbose", action="store_true", help="a line for each claim")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the claims; returns the exit status of the verdict.

    What several runs need is imported for them alone. pytest wants to be the first to import its plugins; and Avocado
    brings setuptools' own packages into Python's path, of which one is a plugin that no sign-off may have.
    """
    if len(_split(argv, *OPTIONS, action="append", default=[])[0]) > 1:
        from cli import kernels  # noqa: PLC0415

        return kernels.run(*kernels.split_kernels(argv))
    number, words = _split(argv, "--workers", default=tests.WORKERS)
    if number == tests.WORKERS:
        return tests.main(["tests_e2e", *words])
    from cli import workers  # noqa: PLC0415

    number, words = workers.split_workers(argv)
    return workers.run(number, words) if number > 1 else running.run(tests.start(["tests_e2e", *words]))


def _split(argv: Sequence[str], *names: str, **attributes: Any) -> tuple[Any, list[str]]:
    """An option's value, and the other words of a command line."""
    parser = argparse.ArgumentParser(prog="sealproof signoff", add_help=False, allow_abbrev=False)
    parser.add_argument(*names, dest="value", **attributes)
    chosen, words = parser.parse_known_args(argv)
    return chosen.value, words


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
