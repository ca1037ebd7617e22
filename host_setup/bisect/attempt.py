# SPDX-License-Identifier: GPL-2.0-or-later
"""``try CLAIM``: builds a kernel, boots it as the host under test and tries one claim on it, for ``git bisect run``.

The kernel is built in a folder that is kept from one call to the next, so that only what differs is compiled. The exit
status is as git bisect takes it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import KernelError, SealproofError, SetupError, UserInputError
from common.failure import describe
from common.paths import PROJECT, expand_home, parse_path, parse_user_path
from common.processes import run_tree
from common.program import end_with
from common.progress import Terminal
from common.store import Store, disk_errors
from common.text import printable
from host_setup.bisect.search import STAGE, Line, Search, StepVerdict, Vote
from host_setup.bisect.steps import settings_at
from host_setup.claim_runs import HARM, ClaimRun, OwnCache, claim_tests, run_claims
from host_setup.kernel import build, layers, patches, series, source
from host_setup.kernel.build import Request
from host_setup.kernel.rolling import Rolled, RollingBuild
from host_setup.kernel.series import Protection
from host_setup.kernel.source import Kind, Source
from host_setup.kernel.toolchain import GCC, Toolchain, parse_compiler, parse_jobs
from host_setup.provision import Settings, accelerator, kernel_request, with_accelerator
from host_setup.this_machine import survey

GOOD, BAD, NEITHER, STOP = 0, 1, 125, 128  # exit status
_HOSTS = ("auto", "emulated", "nested")
_FIELDS = ("status", "why", "expected", "observed", "control", "shared", "seconds")
_TREE = "linux"


@dataclass(frozen=True, slots=True)
class Observation:
    """One trial of a claim on one kernel.

    :ivar why: in words. :ivar claim: of the claim's entry in the report: status, what was expected, what was observed.
    :ivar report: the run's folder; empty if there is none. :ivar building: seconds. :ivar trying: seconds.
    :ivar kernel: key of what was built. :ivar code: hash of what runs of it.
    """

    vote: Vote
    why: str
    claim: dict[str, str] = field(default_factory=dict)
    report: str = ""
    building: float = 0.0
    trying: float = 0.0
    kernel: str = ""
    code: str = ""


def vote_of(claim: str, run: ClaimRun, *, harm: bool) -> tuple[Vote, str, dict[str, str]]:
    """What a run of one claim says of its kernel: the vote, why, and what the report has on the claim.

    :param harm: a kernel that dies or hangs under the probe is bad as well.
    """
    result = run.tried_claims.get(claim)
    if result is None:
        return Vote.NOT_PROVEN, run.late or _first([*run.failed_set_up, run.output[-400:], "it printed nothing"]), {}
    words = {name: str(result.get(name, "")) for name in _FIELDS}
    given_up = [problem for problem in run.report["problems"] if "the set-up failed" in problem] if run.report else []
    if result["status"] == "PASS" and not given_up and not run.late:
        return Vote.GOOD, result["why"], words
    if result["status"] == "FAIL" and (harm or not result["why"].startswith(HARM)):
        return Vote.BAD, result["why"], words
    return Vote.NOT_PROVEN, _first([*given_up, run.late, f"{result['status']}: {result['why']}"]), words


def _first(words: Sequence[str]) -> str:
    return next(word.strip() for word in words if word.strip())


class Workshop:
    """Where kernels are built, and a claim is tried on them, one after the other.

    :param store: the user's cache; all is on its file system, below ``kept``.
    :param claim: its name. :raises UserInputError: there is none of that name.
    """

    def __init__(self, store: Store, claim: str, terminal: Terminal, *, harm: bool = False) -> None:
        tests = claim_tests(PROJECT)
        if claim not in tests:
            raise UserInputError(
                f"there is no claim {claim}",
                stage=STAGE,
                hint="tests_e2e/contract/ has them, behind 'id =' and 'ids ='",
            )
        self.folder = store.root / "kept/bisect"
        self._claim = claim
        self._node = tests[claim]
        self._harm = harm
        self._store = store
        self._terminal = terminal
        self._rolling = RollingBuild(self.folder / "build", store, terminal)
        self._trees = Trees(self.folder / "trees", store, terminal)
        self._cache = OwnCache(store, self.folder / "cache")
        self._log = self.folder / "make.log"
        self._code = ""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """There is one of it; whatever happens, no kernel stays in its cache.

        :raises SetupError: another process is at work there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=0):
                self._cache.take_back()
                try:
                    yield
                finally:
                    self._cache.take_back()
        except Timeout as error:
            raise SetupError(
                "another 'bisect' or 'try' is at work", stage=STAGE, hint="end it, or wait for it"
            ) from error

    def attempt(
        self, settings: Settings, reports: Path, pool: Sequence[Observation] = (), cast: int = 0
    ) -> Observation:
        """Build a kernel, unless it is there already, and try the claim on it.

        :param reports: a folder for the report, in place of what is there.
        :param pool: what was observed on other kernels: if one of them runs the same code, that counts here as well.
        :param cast: votes that this kernel has already.
        :raises SealproofError: nothing was tried, for a reason that is not the kernel's.
        """
        begun = time.monotonic()
        try:
            request = self._request(settings)
            key = build.key(request, request.toolchain.version())
            cache, code = self._provide(request, key)
        except KernelError as error:
            return Observation(Vote.NOT_BUILT, printable(error.message), building=_since(begun))
        building = _since(begun)
        same = [
            observation
            for observation in pool
            if code and observation.code == code and observation.vote in (Vote.GOOD, Vote.BAD)
        ]
        if len(same) > cast:
            return replace(same[cast], building=building, trying=0.0, kernel=key)
        begun = time.monotonic()
        shutil.rmtree(reports, ignore_errors=True)  # of one that was ended; its report is not this one's
        reports.mkdir(parents=True)
        run = run_claims([self._node], _words(settings), cache, reports, reports / "pytest.log")
        vote, why, words = vote_of(self._claim, run, harm=self._harm)
        report = "" if run.folder is None else str(run.folder)
        return Observation(vote, printable(why), words, report, building, _since(begun), key, code)

    def _request(self, settings: Settings) -> Request:
        request = kernel_request(with_accelerator(settings, accelerator(settings.host, None, survey())), self._store)
        request.series.check_base(request.source.release)
        return request

    def _provide(self, request: Request, key: str) -> tuple[Store, str]:
        """Put a kernel into a cache; returns the cache, and the hash of the kernel's code if it was built here."""
        if self._store.get("kernel", key) is not None:
            return self._store, ""
        own = self._cache.store
        if own.get("kernel", key) is None:
            self._cache.take_back()
            self._cache.lend()
            with self._trees.tree(request) as tree:
                done = self._build_with_retry(tree, request)
            self._code = done.code
            own.get_or_make("kernel", key, lambda entry: self._rolling.hand_over(entry, done.seconds))
        return own, self._code

    def _build_with_retry(self, tree: Path, request: Request) -> Rolled:
        """Build it; once more if it does not build, as a machine without memory kills compilers."""
        self._log.unlink(missing_ok=True)
        try:
            return self._rolling.build(tree, request, self._log)
        except KernelError:
            return self._rolling.build(tree, request, self._log)


class Trees:
    """Source trees to build from; those of a user's tree share with the last one what is as it was.

    :param folder: of its own.
    """

    def __init__(self, folder: Path, store: Store, terminal: Terminal) -> None:
        self._folder = folder
        self._store = store
        self._terminal = terminal
        self._log = folder / "tree.log"

    @contextmanager
    def tree(self, request: Request) -> Iterator[Path]:
        """The tree of a kernel, with its patches; to be read.

        :raises KernelError: a patch does not apply.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with disk_errors(self._folder):
            plain = self._plain(request.source)
            if not request.series.patches:
                yield plain
                return
            patched = self._folder / "patched"
            shutil.rmtree(patched, ignore_errors=True)
            try:
                run_tree(["cp", "--archive", "--link", str(plain), str(patched)], log=self._log, stage=STAGE)
                patches.apply(patched, request.series.patches, self._folder / "logs", plain)
                yield patched
            finally:
                shutil.rmtree(patched, ignore_errors=True)

    def _plain(self, origin: Source) -> Path:
        if origin.kind is Kind.TARBALL:
            return patches.source_tree(origin, (), self._store, self._terminal, self._folder / "logs")
        slot = self._folder / f"plain-{origin.identity[:20]}"
        if slot.is_dir():
            return slot / _TREE
        earlier = [*self._folder.glob("plain-*")]
        fresh = self._folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / _TREE).mkdir(parents=True)
        origin.unpack(fresh / _TREE, self._log, earlier[0] / _TREE if earlier else None)
        fresh.rename(slot)
        for tree in earlier:
            shutil.rmtree(tree)
        return slot / _TREE


def _words(settings: Settings) -> list[str]:
    """How a user chooses this kernel, for pytest."""
    words = ["--host", settings.host, "--mode", settings.mode.value, "--series", settings.series]
    if settings.kernel_source is not None:
        words += ["--kernel", str(settings.kernel_source)]
    if settings.layers:
        words += ["--layers", ",".join(settings.layers)]
    words += ["--compiler", settings.toolchain.compiler]
    return words if settings.toolchain.jobs is None else [*words, "--jobs", str(settings.toolchain.jobs)]


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 1)


# --- the command ------------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose a claim and a kernel."""
    parser.add_argument("claim", metavar="CLAIM", help="as tests_e2e/contract/ names it")
    source.add_option(parser)
    parser.add_argument(
        "--series", default=series.DEFAULT, metavar="NAME", help="a name or a folder; default: %(default)s"
    )
    parser.add_argument("--layers", default=(), type=layers.parse_names, metavar="NAMES", help="of the configuration")
    parser.add_argument(
        "--mode", type=Protection, choices=[*Protection], default=Protection.PROTECTED, help="default: %(default)s"
    )
    parser.add_argument("--host", choices=_HOSTS, default="auto", help="kind of host; default: %(default)s")
    parser.add_argument("--compiler", type=parse_compiler, default=GCC.compiler, metavar="NAME", help="default: gcc")
    parser.add_argument("--jobs", type=parse_jobs, metavar="N", help="compilers at a time")
    parser.add_argument(
        "--cache-folder", type=parse_user_path, metavar="DIR",
        help="the cache; default: sealproof below $XDG_CACHE_HOME or ~/.cache",
    )  # fmt: skip
    parser.add_argument(
        "--harm",
        action="store_true",
        help="count a kernel that dies or hangs under the probe as bad; without this it is 'not proven'",
    )
    parser.add_argument(
        "--times", type=_times, default=1, metavar="N",
        help="lead that a verdict needs over the other one, in results; default: 1, but 2 for 'bad' and for the "
            "two steps that decide",
    )  # fmt: skip
    parser.add_argument(
        "--folder",
        type=parse_path,
        default=PROJECT / "reports/bisect",
        metavar="DIR",
        help="for reports; default: reports/bisect",
    )


def _times(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def settings_of(option: argparse.Namespace) -> Settings:
    """The settings that the options mean; paths are absolute."""
    origin = option.kernel_source
    return Settings(
        option.host, str(expand_home(option.series).absolute()) if "/" in option.series else option.series,
        expand_home(origin).absolute() if isinstance(origin, Path) else origin, option.layers, option.mode,
        toolchain=Toolchain(option.compiler, option.jobs), cache=option.cache_folder,
    )  # fmt: skip


def trial_line(observation: Observation) -> str:
    """One trial in one line."""
    first = observation.why.partition("\n")[0]
    took = f"[{observation.building:.0f} s + {observation.trying:.0f} s]"
    return f"{observation.vote}{f': {first}' if first else ''}  {took}"


def options_parser() -> argparse.ArgumentParser:
    """The command line of ``try``."""
    parser = argparse.ArgumentParser(
        prog="sealproof try", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--at", metavar="N|REV", help="the first N patches of the series, or a commit of --kernel")
    return parser


def main(argv: list[str]) -> int:
    """Try one kernel."""
    try:
        option = options_parser().parse_args(argv)
    except SystemExit as usage_error:
        return STOP if usage_error.code else 0  # 2, as argparse has it, would be "bad"
    try:
        return _try(option)
    except SealproofError as error:
        sys.stderr.write(f"{error}\n")
    except Exception as error:  # noqa: BLE001  whatever it is, it is no verdict on the kernel, and Python's 1 would be
        sys.stderr.write(f"{describe(error)}\n")
    return STOP


def _try(option: argparse.Namespace) -> int:
    terminal = Terminal()
    settings = settings_of(option)
    shop = Workshop(settings.store(), option.claim, terminal, harm=option.harm)
    rule = Search(Line(), "0", "1", times=option.times)
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    votes: list[Vote] = []
    with shop.alone():
        if option.at is not None:
            settings = settings_at(settings, option.at, shop.folder)
        while (verdict := rule.verdict(votes)) is None:
            reports = option.folder.absolute() / "try" / f"{option.claim}-{run}-{len(votes) + 1}"
            attempt = shop.attempt(settings, reports)
            votes.append(attempt.vote)
            print(trial_line(attempt), flush=True)  # noqa: T201
            if attempt.report:
                print(f"  {attempt.report}", flush=True)  # noqa: T201
    print(f"{option.claim}: {verdict}")  # noqa: T201
    return {StepVerdict.GOOD: GOOD, StepVerdict.BAD: BAD, StepVerdict.SKIP: NEITHER}[verdict]


if __name__ == "__main__":
    end_with(main, STOP)
