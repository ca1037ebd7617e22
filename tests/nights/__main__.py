# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.nights FOLDER``: twenty nights of real runs, and whether each comes out exactly as it was seeded.

The nights are those of ``tests.unit.night_samples.twenty``, but nothing in them is made up: ``sealproof nightly`` runs
in a checkout of this repository's last commit, builds kernels, boots hosts and tries claims, in two cells:

    faulty    mode protected. 5 to 8: the series has three more patches, the second one a fault, which two claims name;
              the night finds it. 3, 10, 20: a claim is flaky. 16: the host's kernel complains
    plain     the kernel as it comes. 7: a claim is flaky. 10: the kernel is 7.3 in place of 6.12, and a claim fails
              until 19. 13: a claim becomes slower. 17: the kernel panics when it boots

Night 8 is killed and goes on; 12 is killed for good. 15: the disk for reports is full. 19: one claim is new, one gone.

Held against what was seeded are each night's changes and exit status, ``history summary``, ``history compare`` of each
run with the one before, the trend page's squares, ``history claim``, and the first bad patch. ``--minutes N`` begins no
night later; the next call goes on there. Exit status 0: all is as it was seeded; 1: something is not; 2: nights are
left.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from common.program import end_with
from tests.nights.judge import Judge
from tests.nights.seeds import NIGHTS
from tests.nights.world import World

WRONG, LEFT = 1, 2  # exit status


def options_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.nights", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=lambda text: Path(text).absolute())
    parser.add_argument("--minutes", type=float, default=600.0, help="after which no night is begun")
    return parser


def main(argv: list[str]) -> int:
    """Run what is left of the nights; returns the exit status."""
    option = options_parser().parse_args(argv)
    begun = time.monotonic()
    world = World(option.folder)
    world.make()
    judge = Judge(world)
    file = option.folder / "done.json"
    done: list[list[str]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    for number in range(len(done) + 1, len(NIGHTS) + 1):
        if time.monotonic() - begun > 60 * option.minutes:
            break
        world.seed(number)
        faults = judge.night(number, world.night(number))
        done.append(faults)
        file.write_text(json.dumps(done, indent=1), encoding="utf-8")
        _say([f"  {line}" for line in faults] or ["  as seeded"])
    open_nights = len(NIGHTS) - len(done)
    last = [] if open_nights else judge.all_nights()
    _say(last)
    wrong = [number for number, faults in enumerate(done, 1) if faults]
    _say(
        [
            f"{len(done) - len(wrong)} of {len(done)} nights are as seeded"
            + (f", {open_nights} are left" if open_nights else "")
        ]
    )
    return WRONG if wrong or last else LEFT if open_nights else 0


def _say(lines: list[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with(main)
