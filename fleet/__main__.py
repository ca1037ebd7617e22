# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m fleet``: spread a sign-off over machines, merge parts, compute a speed-up."""

from __future__ import annotations

import argparse
import shlex
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.errors import SealproofError
from common.numbers import whole_number
from common.paths import PROJECT, config_root, parse_path, parse_path_elsewhere, require_reports
from common.program import end_with
from fleet import job, machines
from fleet.groups import groups
from fleet.merging import sign_merged
from fleet.plan import say_plan
from fleet.speedup import table
from host_setup import inventory
from signoff.evidence import read
from signoff.keys import fingerprint, own_key
from signoff.overall import Exit
from signoff.record import new_run_id


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is the verdict's."""
    arguments = options_parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    return _command_line()[0]


def command_parsers() -> Mapping[str, argparse.ArgumentParser]:
    """The command line of each command: run, merge, speedup."""
    return _command_line()[1]


def _command_line() -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(prog="python -m fleet", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run_parser = commands.add_parser(
        "run", prog="sealproof fleet", help="run a sign-off as Avocado jobs, then merge and sign the results"
    )
    run_parser.set_defaults(command=_run)
    run_parser.add_argument(
        "--workers",
        type=whole_number(1, machines.MOST),
        default=1,
        metavar="N",
        help="number of groups that run at the same time on this machine; default: 1",
    )
    run_parser.add_argument(
        "--machine",
        action="append",
        default=[],
        metavar="[USER@]HOST[:PORT]",
        help="run on this machine, by SSH, instead of here; may be repeated",
    )
    run_parser.add_argument(
        "--checkout",
        type=parse_path_elsewhere,
        default=PROJECT,
        metavar="DIR",
        help="folder of sealproof on each machine",
    )
    run_parser.add_argument("--ssh-key", type=parse_path, metavar="FILE", help="private key; default: ssh's own choice")
    run_parser.add_argument(
        "--known-hosts", type=parse_path, metavar="FILE", help="host keys; default: ~/.ssh/known_hosts"
    )
    run_parser.add_argument("--each", action="store_true", help="run every claim on every machine, to compare them")
    run_parser.add_argument(
        "--tries",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="maximum number of jobs, including retries of lost claims",
    )
    run_parser.add_argument("--dry-run", action="store_true", help="print what would run where; make and run nothing")
    run_parser.add_argument(
        "--reports", type=parse_path, default=PROJECT / "reports", metavar="DIR", help="folder for the reports of runs"
    )
    run_parser.add_argument(
        "--inventory",
        type=parse_path,
        metavar="FILE",
        help="TOML file of machines; if it says by which keys they sign (signs_with), a part by any other is refused; "
        "default: sealproof/inventory.toml below $XDG_CONFIG_HOME or ~/.config, if it is there",
    )
    run_parser.add_argument("pytest", nargs=argparse.REMAINDER, metavar="-- ...", help="paths and options for pytest")

    merge_parser = commands.add_parser(
        "merge", prog="sealproof merge", help="merge parts (folders of runs or of Avocado jobs), and sign the result"
    )
    merge_parser.set_defaults(command=_merge)
    merge_parser.add_argument(
        "parts", nargs="+", type=parse_path, metavar="FOLDER", help="of a run, or of an Avocado job with its parts"
    )
    merge_parser.add_argument(
        "--reports", type=parse_path, default=PROJECT / "reports", metavar="DIR", help="folder for the reports of runs"
    )
    merge_parser.add_argument(
        "--inventory",
        type=parse_path,
        metavar="FILE",
        help="TOML file of machines; if it says by which keys they sign (signs_with), a part by any other is refused; "
        "default: sealproof/inventory.toml below $XDG_CONFIG_HOME or ~/.config, if it is there",
    )

    speedup_parser = commands.add_parser(
        "speedup",
        prog="sealproof speedup",
        help="compute the speed-up by more machines from a merged run's measured parts",
    )
    speedup_parser.set_defaults(command=_speedup)
    speedup_parser.add_argument("folder", type=parse_path, metavar="FOLDER", help="of a merged report")
    speedup_parser.add_argument(
        "--machines",
        type=whole_number(1, machines.MOST),
        nargs="+",
        default=[1, 2, 4, 10, 100],
        metavar="N",
        help="how many; default: 1 2 4 10 100",
    )
    return parser, commands.choices


def _run(arguments: argparse.Namespace) -> int:
    if not arguments.dry_run:
        require_reports(arguments.reports.resolve())
    keys = _known_keys(arguments.inventory)  # what is wrong with the inventory is told before the work
    targets = machines.parse_all(arguments.machine)
    words = [word for word in arguments.pytest if word != "--"] or []
    if not any((PROJECT / word).exists() for word in words):
        words.insert(0, "tests_e2e")
    collected = groups(shlex.join(words))
    claims = sum(len(group.claims) for group in collected)
    folder = arguments.reports.resolve() / f"fleet-{new_run_id()}"
    access = machines.Access(arguments.checkout, arguments.ssh_key, arguments.known_hosts)
    over = ", ".join(map(str, targets)) or f"{arguments.workers} at a time on this machine"
    if arguments.dry_run:
        workers = job.Workers(arguments.workers, targets, access)
        can = say_plan(collected, workers, arguments.reports.resolve(), each=arguments.each, say=_say)
        return Exit.PROVEN if can else Exit.NOT_PROVEN
    _say(f"{claims} claims in {len(collected)} groups: {over}")
    alone = [(target,) for target in targets] if arguments.each else [targets]
    parts: dict[Path, float] = {}
    problems: list[str] = []
    seconds: dict[str, float] = {}
    for number, together in enumerate(alone):
        workers = job.Workers(arguments.workers, together, access)
        place = folder / together[0].host.replace(":", "_") / str(number) if arguments.each and together else folder
        outcome = job.run(collected, workers, place, tries=arguments.tries, say=_say)
        parts |= outcome.parts
        for at, took in enumerate(outcome.seconds, 1):
            seconds[f"Avocado job {len(seconds) + 1}{' (claims that were lost)' if at > 1 else ''}"] = round(took, 1)
        problems += _lost_claims(outcome)
    _say(f"Avocado's results: {folder}")
    command = shlex.join(["python", "-m", "fleet", "run", *sys.argv[2:]])
    return sign_merged(
        parts,
        arguments.reports.resolve(),
        command,
        _say,
        keys=_with_own(keys),
        problems=problems,
        durations=seconds,
    )


def _lost_claims(outcome: job.JobsOutcome) -> list[str]:
    """Claims that no part has: they cannot be seen from the parts."""
    if not outcome.lost:
        return []
    absent = "; ".join(f"{name}: {why}" for name, why in outcome.absent.items())
    return [f"{len(outcome.lost)} claims were lost with their machines{f' ({absent})' if absent else ''}"]


def _merge(arguments: argparse.Namespace) -> int:
    require_reports(arguments.reports.resolve())
    parts: dict[Path, float] = {}
    with tempfile.TemporaryDirectory(prefix="sealproof-merge-") as scratch:
        for path in arguments.parts:
            folder = path.resolve()
            if (folder / "record.json").is_file():
                parts[folder] = 0.0
            else:
                parts |= job.collect(folder, Path(scratch))
        command = shlex.join(["python", "-m", "fleet", "merge", *map(str, arguments.parts)])
        keys = _with_own(_known_keys(arguments.inventory))
        return sign_merged(parts, arguments.reports.resolve(), command, _say, keys=keys)


def _known_keys(named: Path | None) -> dict[str, str]:
    """The keys by which machines sign, as the inventory has them.

    :raises UserInputError: it cannot be read.
    """
    file = named or inventory.default_path()
    return inventory.signing_keys(file) if named or file.is_file() else {}


def _with_own(keys: dict[str, str]) -> dict[str, str]:
    """The keys, with that of this machine, which needs no entry in the inventory; none where none is known."""
    return {socket.gethostname(): fingerprint(own_key(config_root()).public_key()), **keys} if keys else {}


def _speedup(arguments: argparse.Namespace) -> int:
    run = read(arguments.folder.resolve())
    seconds = [part.seconds for part in run.fleet.parts if part.seconds] if run.fleet else []
    if not seconds:
        raise SealproofError(
            f"{arguments.folder} has no measured parts",
            stage="speed-up",
            hint="measure one: ./sealproof fleet --workers 2",
        )
    for line in table(seconds, arguments.machines):
        _say(line)
    for name, took in run.record.durations.items():
        _say(f"measured: {name}: {took:.1f} s")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with(main)
