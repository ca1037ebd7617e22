# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof clean-cache``: shrink the cache by age and size, least recently used first; print what goes.

ccache shrinks its own part of the cache, which is only shown.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from common.environment import environment
from common.errors import UserInputError
from common.paths import cache_root
from common.program import end_with
from common.progress import clock
from common.store import Entry, Store, weigh

GIB = 1 << 30
DAY = 24 * 60 * 60.0  # seconds


class Limits(BaseModel):
    """What may stay: ``max_size`` in bytes, written as ``20GiB``; ``max_age`` in days since an entry's last use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_size: ByteSize = Field(ge=0)
    max_age: float = Field(ge=0)


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof clean-cache", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--max-size",
        default="20GiB",
        metavar="SIZE",
        help="keep at most this size, for instance 500MiB; default: 20GiB",
    )
    parser.add_argument(
        "--max-age", default="30", metavar="DAYS", help="keep what was used in so many days; default: 30"
    )
    return parser


def _limits(argv: Sequence[str]) -> Limits:
    """The command line's limits.

    :raises UserInputError: one is not a size or not a number of days.
    """
    options = options_parser().parse_args(argv)
    try:
        return Limits.model_validate(vars(options))
    except ValidationError as error:
        reasons = "; ".join(f"{fault['loc'][0]} = {fault['input']}: {fault['msg']}" for fault in error.errors())
        raise UserInputError(reasons, hint="for instance: make clean-cache MAX_SIZE=20GiB MAX_AGE=30") from error


def _line(verb: str, entry: Entry) -> str:
    age = f"{entry.age / DAY:.1f} days ago" if entry.age >= DAY else f"{clock(entry.age)} ago"
    return f"  {verb:<8} {entry.kind}/{entry.key}  {entry.size / GIB:.2f} GiB, last used {age}"


def _compiler_cache(store: Store) -> list[str]:
    """A line for what ccache keeps, if it does, with its own limit."""
    folder = store.root / "ccache"
    if not folder.is_dir():
        return []
    argv = ["ccache", "--get-config", "max_size"]
    limit = "ccache is not installed"
    if shutil.which("ccache") is not None:
        asking = environment({"CCACHE_DIR": str(folder)})
        done = subprocess.run(argv, env=asking, capture_output=True, text=True, check=False)
        limit = f"ccache itself limits it to {done.stdout.strip() or 'a limit of its own'}"
    return [f"  {'beside':<8} ccache  {weigh(folder) / GIB:.2f} GiB, {limit}"]


def clean(store: Store, limits: Limits) -> str:
    """Clean it.

    :returns: a line for each entry, and the sums.
    """
    removed = store.clean(max_bytes=int(limits.max_size), max_age=limits.max_age * DAY)
    remaining = store.entries()
    freed, remaining_size = (sum(entry.size for entry in entries) / GIB for entries in (removed, remaining))
    lines = [_line("removed", entry) for entry in removed] + [_line("stays", entry) for entry in remaining]
    total = f"{store.root}: removed {len(removed)} ({freed:.2f} GiB), kept {len(remaining)} ({remaining_size:.2f} GiB)"
    return "\n".join([*lines, *_compiler_cache(store), total, ""])


def main(argv: Sequence[str]) -> int:
    """Clean it, and say so.

    :raises UserInputError: an option is not usable.
    """
    sys.stdout.write(clean(Store(cache_root()), _limits(argv)))
    return 0


if __name__ == "__main__":
    end_with(main)
