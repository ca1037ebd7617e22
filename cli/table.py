# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of commands. A new command is a row here, and a module with ``main(argv)`` and ``options_parser()``.

Standard library alone, and no module of a command is imported before it is asked for: ``sealproof`` and ``sealproof
doctor`` work on a machine where nothing is installed yet.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from common.errors import UserInputError
from common.program import FAILED


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    :ivar summary: one line, after which nothing else needs to be read.
    :ivar module: has ``main(argv)`` and ``options_parser()``.
    :ivar examples: arguments, one example a line, each with a comment after two blanks and ``#`` where it needs one.
    :ivar exits: its exit statuses, a line each, in order: the number and what it means.
    :ivar one_of: the command of a module that has several: the word that its ``main`` expects first. The module then
        has ``command_parsers()``, by that word.
    :ivar failed: the exit status when it fails, which ``exits`` may leave out. To `git bisect run` 2 means "bad".
    """

    name: str
    summary: str
    module: str
    examples: tuple[str, ...]
    exits: tuple[str, ...] = field(kw_only=True)
    one_of: str = ""
    failed: int = FAILED

    def main(self, argv: Sequence[str]) -> int:
        """Run it; returns its exit status."""
        main = cast("Callable[[list[str]], int]", import_module(self.module).main)
        return main([self.one_of, *argv] if self.one_of else list(argv))

    def options_parser(self) -> argparse.ArgumentParser:
        """Its command line, with the examples in the help."""
        module = import_module(self.module)
        parser = cast(
            "argparse.ArgumentParser",
            module.command_parsers()[self.one_of] if self.one_of else module.options_parser(),
        )
        parser.prog = f"sealproof {self.name}"
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        paragraphs = (parser.description or "").replace("``", "").split("\n\n")[1:]
        details = "\n\n".join(text for text in paragraphs if not text.startswith("Exit status"))
        parser.description = f"{self.summary[:1].upper()}{self.summary[1:]}." + (f"\n\n{details}" if details else "")
        parser.epilog = "\n".join(
            [
                "examples:",
                *(f"  ./sealproof {self.name} {text}".rstrip() for text in self.examples),
                "",
                "exit status:",
                *(f"  {text}" for text in self._exit_lines()),
            ]
        )
        return parser

    def _exit_lines(self) -> list[str]:
        failed = f"{self.failed}:"
        of_failure = (
            [] if any(failed in text for text in self.exits) else [f"{failed} it could not be done; the error says why"]
        )
        return [*self.exits, *of_failure]


COMMANDS = (
    Command(
        "signoff",
        "prove every claim, and write the report",
        "cli.signoff",
        (
            "",
            "--kernel ~/linux --series ~/my-series",
            "--kernel 6.12 --kernel 7.3  # one after the other, and what differs",
            "--series stock  # without protection: each attack gets through",
            "-m quick  # a first selection, in seconds with a warm cache",
            "-k process_vm_readv --keep-on-failure",
            "--dry-run",
        ),
        exits=(
            "0: every claim about the protection is PASS; with -m quick alone: every claim of the quick list",
            "1: at least one claim is FAIL",
            "2: not proven: a claim was not run, the harness broke, or the set-up failed",
        ),
    ),
    Command(
        "test",
        "check the files, then run the project's own tests, unit and end to end",
        "cli.own_tests",
        ("", "--quick  # a part of the claims", "-k ptrace  # options of pytest work as well"),
        exits=(
            "0: all passed",
            "1: a check or a test failed",
            "2: it could not be done",
        ),
    ),
    Command(
        "lint",
        "check types, style, layout, shell and licences",
        "cli.lint",
        ("", "types style"),
        exits=(
            "0: no check found a fault",
            "1: at least one check did",
        ),
    ),
    Command(
        "doctor",
        "say what this machine, or each machine of an inventory, offers and lacks; changes nothing",
        "cli.doctor",
        ("", "lab.toml  # tries each machine of this inventory"),
        exits=(
            "0: the sign-off can run here; of an inventory: each machine can be used",
            "1: the sign-off cannot run, or a machine cannot be used; the output says why",
        ),
    ),
    Command(
        "shell",
        "open a shell on a fresh host, or in one of its guests",
        "host_setup.tools.shell",
        ("", "--guest plain", "--series stock -- uname -a"),
        exits=("the exit status of the shell, or of the command",),
    ),
    Command(
        "rows",
        "run rows of tiny_vm, a VMM whose guests do what no operating system does, on a fresh host",
        "host_setup.tools.rows",
        ("", "walk-bits real-mode", "--emulator bochs --words kvm_intel.ept=0"),
        exits=(
            "0: every row that was run is PASS or SKIP",
            "1: at least one row is FAIL",
        ),
    ),
    Command(
        "debug",
        "open gdb or drgn on the kernel of a fresh host",
        "host_setup.tools.debug",
        ("", "--drgn", "--dump host.core", "-- -batch -ex lx-dmesg"),
        exits=("the exit status of the debugger",),
    ),
    Command(
        "soak",
        "boot, restore and reboot again and again, and count stalls and failures",
        "host_setup.tools.soak",
        ("--boots 50 --restores 200 --reboots 20", "--boots 5 --restores 0 --series stock"),
        exits=(
            "0: every boot, restore and reboot went well",
            "1: at least one failed or stalled",
        ),
    ),
    Command(
        "stress",
        "make guests protect memory, share it, take it back and die, again and again",
        "host_setup.tools.stress",
        ("--rounds 20 --shares 10000 --layers debug",),
        exits=(
            "0: every round went well",
            "1: at least one round failed",
        ),
    ),
    Command(
        "search",
        "search for operations after which a page has the wrong owner",
        "host_setup.search.__main__",
        ("--minutes 60", "--seed 7 --minutes 5", "--replay reports/finds/7.txt  # one sequence, alone"),
        exits=(
            "0: no sequence failed",
            "1: a sequence failed",
        ),
    ),
    Command(
        "bench",
        "compare the times of our machines with virtme-ng's, or the costs of two series",
        "host_setup.tools.bench",
        ("--rounds 9", "--protection --series protected-memory --against stock"),
        exits=(
            "0: all was measured, whether the goals are met or not",
            "1: something could not be measured",
        ),
    ),
    Command(
        "fleet",
        "spread a sign-off over machines",
        "fleet.__main__",
        (
            "--workers 2  # two groups of claims at a time, here",
            "--machine root@node1 --machine root@node2",
            "--workers 2 -- tests_e2e -k ptrace  # arguments after -- go to pytest",
            "--dry-run --machine root@node1",
        ),
        one_of="run",
        exits=("the same as of signoff",),
    ),
    Command(
        "merge",
        "merge parts of a sign-off into one signed report",
        "fleet.__main__",
        ("~/avocado/job-results/latest", "reports/a reports/b"),
        one_of="merge",
        exits=("the same as of signoff",),
    ),
    Command(
        "speedup",
        "compute from a merged report how much faster more machines would be",
        "fleet.__main__",
        ("reports/latest --machines 2 10",),
        one_of="speedup",
        exits=("0: the table is printed",),
    ),
    Command(
        "history",
        "keep finished runs, compare them, and say how a claim fared",
        "history.__main__",
        (
            "record reports/latest",
            "compare RUN latest",
            "claim guest_kvmclock_advances",
            "trend nights.html --nights 60",
        ),
        exits=(
            "0: done; of compare and summary: no claim regressed",
            "1: of compare and summary: a claim regressed",
            "2: it could not be done; compare: the runs are not comparable; summary: a cell could not be tried",
        ),
    ),
    Command(
        "nightly",
        "run a matrix of sign-offs within a time limit",
        "history.__main__",
        ("matrix.toml --minutes 240", "matrix.toml --dry-run"),
        one_of="nightly",
        exits=(
            "0: no claim regressed",
            "1: a claim regressed, or a claim has a result that --exit-on names",
            "2: no claim regressed, but a cell could not be tried, or the set-up failed",
        ),
    ),
    Command(
        "selftests",
        "run the kernel's own selftests on one series, or on two to compare them",
        "host_setup.selftests.__main__",
        ("", "--series stock --series ~/my-series", "--only gup_test"),
        exits=(
            "0: all that passes on the first series passes on the second, or only one series was run",
            "1: a test or check passes on the first series and not on the second",
            "2: nothing was proved",
        ),
    ),
    Command(
        "verify",
        "check a report against its evidence",
        "cli.verify",
        ("reports/latest", "report.tar --key FINGERPRINT --contract SHA256 --commit COMMIT"),
        exits=(
            "0: PROTECTED, and the report is of what you named",
            "1: NOT PROTECTED",
            "2: not proven",
            "3: not what was signed, not consistent, or not what you trust",
        ),
    ),
    Command(
        "report",
        "show a run's verdict again; write the reports of a run that was killed",
        "signoff.__main__",
        ("reports/latest", "reports/latest --same", "reports/latest --ssh-key ~/.ssh/id_ed25519"),
        exits=("the same as of signoff; with --same: 0 if all files are identical, otherwise 3",),
    ),
    Command(
        "rebuild",
        "build the kernel of a report again, from nothing, and compare",
        "host_setup.tools.rebuild",
        ("reports/latest", "reports/latest --series ~/my-series --kernel ~/linux --compiler gcc-13"),
        exits=(
            "0: the same kernel",
            "1: another kernel",
        ),
    ),
    Command(
        "mutate",
        "put faults into the series, and check that a claim names each",
        "host_setup.mutate.__main__",
        (
            "--kind hand  # the faults by hand, each on the claims that must name it",
            '--only "mm/ksm.c:*" --whole  # all mutants of a file',
            "--sample 10 --seed 7 --minutes 30",
            '--list --only "*:pool_alloc:*"  # list them, and the claims that come first',
        ),
        exits=(
            "0: a claim names every fault that was asked for, or the fault changes nothing",
            "1: no claim names one of the faults",
            "2: not all faults were tried",
        ),
    ),
    Command(
        "bisect",
        "find the first patch, or commit, with which a claim fails",
        "host_setup.bisect.__main__",
        (
            "CLAIM --series ~/my-series --good 5 --bad 12  # patches",
            "CLAIM --kernel ~/linux --good v6.12.110  # commits",
        ),
        exits=(
            "0: the first bad step is found",
            "1: some steps could not be tried, and the first bad step is one of a few",
            "2: nothing is found",
        ),
    ),
    Command(
        "try",
        "build one kernel and try one claim on it",
        "host_setup.bisect.__main__",
        ("CLAIM --series ~/my-series --at 7  # with the first seven patches", "CLAIM --kernel ~/linux --at v6.12.110"),
        one_of="try",
        failed=128,
        exits=(
            "0: good: the claim is PASS",
            "1: bad: the claim is FAIL by what it looked for",
            "125: neither: the kernel does not build or start, a control or the harness broke, or the claim is SKIP",
            "128: nothing was tried, and the next kernel would fare no better: git bisect stops",
        ),
    ),
    Command(
        "coverage",
        "say which of the series' lines are executed, and by which claims",
        "host_setup.coverage.__main__",
        ("", "-k pinned  # some claims; the results of the others are kept", "--no-run  # write the page again"),
        exits=(
            "0: the goal is reached: each added line with code ran, or is explained",
            "1: the goal is not reached",
        ),
    ),
    Command(
        "clean-cache",
        "shrink the cache to a size, and to entries used in the last days",
        "host_setup.tools.clean_cache",
        ("--max-size 10GiB --max-age 7",),
        exits=("0: the cache is within the limits",),
    ),
    Command(
        "contract",
        "record in the contract what the evidence of each claim holds, taken from a run",
        "cli.contract",
        ("reports/latest", "reports/latest --also reports/20261130T005438Z-eb0b13"),
        exits=("0: the contract is written, even if nothing has changed",),
    ),
    Command(
        "share-cache",
        "push kernels and images to a shared folder or registry, or pull them",
        "host_setup.shared.__main__",
        (
            "push /srv/sealproof",
            "pull https://cache.example.org/sealproof --index SHA256",
            "pull oci://registry.example.org/sealproof --series stock --mode plain",
        ),
        exits=(
            "0: all that a sign-off needs is there now",
            "1: something is missing; the sign-off makes it",
        ),
    ),
    Command(
        "schema",
        "print the JSON schema of signoff.json, or check files against it",
        "cli.schema",
        ("", "--check reports/latest/signoff.json"),
        exits=(
            "0: the schema is printed, or each file is valid",
            "1: a file is not valid",
        ),
    ),
    Command(
        "completion",
        "print a script that completes these commands in bash or zsh",
        "cli.completion",
        ("bash > ~/.local/share/bash-completion/completions/sealproof", "zsh"),
        exits=("0: the script is printed",),
    ),
)


OF_HISTORY = ("record", "export", "import", "compare", "trend", "summary", "claim")
"""Words that ``history`` takes; people try them alone."""


def find(name: str) -> Command:
    """The command of this name.

    :raises UserInputError: there is none; the hint names those that are near.
    """
    for command in COMMANDS:
        if command.name == name:
            return command
    near = [f"history {word}" for word in OF_HISTORY if word == name]
    near = near or difflib.get_close_matches(name, [command.name for command in COMMANDS], n=3)
    raise UserInputError(
        f"there is no command {name!r}",
        stage="sealproof",
        hint=f"did you mean {' or '.join(near)}?" if near else "./sealproof --help lists the commands",
    )
