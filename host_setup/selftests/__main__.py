# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the kernel's own selftests on emulated hosts; of two kernels, the second must pass what the first does.

With one series it says how that kernel does. A regression is tried again on the first kernel: a test that fails there
too, now and then, is unsteady and tells nothing of the second.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from common.paths import cache_root, parse_path, require_reports
from common.program import end_with
from common.progress import Terminal, clock
from common.store import Store
from host_setup.emulated.host import EmulatedHost, EmulatedSpec
from host_setup.kernel import series, source
from host_setup.kernel.layers import Layer, parse_names
from host_setup.provision import Settings, prepare
from host_setup.selftests import compare, record
from host_setup.selftests.build import Selftests, selftests
from host_setup.selftests.compare import Column, Regression
from host_setup.selftests.ktap import KtapOutcome
from host_setup.selftests.run import SelftestResult, boot, host_spec, run
from host_setup.selftests.suites import Selftest, catalogue

REPEATS = 3  # of a test that regressed, on the first kernel
MOST_REPEATED = 10  # tests; where more regressed, it is no unsteady test's doing
NOTHING_PROVED = 2  # exit status


@dataclass(frozen=True, slots=True)
class Bench:
    """A kernel to try: its host to be, and where logs go."""

    series: str
    kernel: dict[str, object]
    spec: EmulatedSpec
    folder: Path

    def run(self, tests: Sequence[Selftest], terminal: Terminal, purpose: str = "") -> tuple[SelftestResult, ...]:
        """Run tests; what they write goes to files."""
        numbers = count(1)
        outputs = self.folder / "output"
        outputs.mkdir(parents=True, exist_ok=True)

        def start() -> EmulatedHost:
            folder = next(path for n in numbers if not (path := self.folder / f"host-{n}").exists())
            return boot(self.spec, folder)

        with terminal.step(f"{len(tests)} selftests on {self.series}{purpose}") as step:
            done = 0

            def on_result(result: SelftestResult) -> None:
                nonlocal done
                done += 1
                step.update(done / len(tests), f"{result.outcome} {result.test.name}")
                file = outputs / f"{re.sub('[^A-Za-z0-9_.-]+', '-', result.test.name)}.txt"
                with file.open("a", encoding="utf-8") as out:
                    out.write(f"{result.test.name}: {result.outcome} after {clock(result.seconds)}: {result.reason}\n")
                    out.write("".join(f"kernel: {line}\n" for line in result.splats) + result.output + "\n")

            return tuple(run(start, tests, on_result))


def seconds_option(text: str) -> float:
    """A number of seconds, above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 1 or more")
    return float(text)


def options_parser() -> argparse.ArgumentParser:
    """The options of ``make selftests ARGS='...'``."""
    parser = argparse.ArgumentParser(prog="sealproof selftests", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--series",
        action="append",
        help="give it once to test one kernel, twice to compare the second with the first (default: stock)",
    )
    source.add_option(parser)
    parser.add_argument(
        "--layers",
        type=parse_names,
        default=(Layer.SELFTESTS,),
        metavar="NAME,...",
        help="configuration layers of both kernels (default: selftests); none: as in the sign-off",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="run only the tests whose name contains this")
    parser.add_argument(
        "--deadline", type=seconds_option, metavar="SECONDS", help="deadline of every test, instead of its own"
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help=f"write the tests that pass to {record.FILE.name}, for --selftests",
    )
    parser.add_argument(
        "--reports", type=parse_path, default=Path("reports"), metavar="DIR", help="folder for the reports of runs"
    )
    return parser


def _prepare(name: str, options: argparse.Namespace, store: Store, terminal: Terminal, folder: Path) -> Bench:
    settings = Settings("emulated", name, options.kernel_source, options.layers)
    kernel, spec = prepare(settings, store, terminal)
    facts: dict[str, object] = {
        "release": kernel.release,
        "key": kernel.key,
        "build_id": kernel.build_id,
        "source": kernel.source,
        "layers": list(kernel.layers),
        "config_sha256": hashlib.sha256(kernel.config.read_bytes()).hexdigest(),
        "patches": [patch.name for patch in kernel.patches],
    }
    return Bench(kernel.series, facts, spec, folder / kernel.series)


def confirm(regressions: Sequence[Regression], column: Column, bench: Bench, terminal: Terminal) -> list[Regression]:
    """Repeat on the first kernel what regressed on the second: does it pass there every time?"""
    if len(regressions) > MOST_REPEATED:
        return list(regressions)
    confirmed = []
    for regression in regressions:
        before = column.of(regression.test)
        again = bench.run([regression.test] * REPEATS, terminal, f" again: {regression.test.name}")
        unsteady = sum(1 for result in again if before is None or compare.lost_passes(before, result))
        confirmed.append(replace(regression, repeats=len(again), unsteady=unsteady))
    return confirmed


def verdict(columns: Sequence[Column], regressions: Sequence[Regression]) -> tuple[int, str]:
    """Exit status, and the sentence that says why."""
    if len(columns) == 1:
        return 0, f"{columns[0].series} alone: nothing to compare it with"
    first, second = columns
    if not any(result.outcome is KtapOutcome.PASS for result in first.results):
        return NOTHING_PROVED, f"no test passes on {first.series}, so the comparison proves nothing"
    blamed = [regression for regression in regressions if regression.counts]
    if blamed:
        return 1, f"{len(blamed)} tests or checks pass on {first.series} and not on {second.series}"
    return 0, f"all that passes on {first.series} passes on {second.series}"


def main(argv: list[str]) -> int:
    """Run them. Exit status 0 without a regression, 1 with one, 2 when nothing was proved."""
    parser = options_parser()
    options = parser.parse_args(argv)
    series_names: list[str] = options.series or ["stock"]
    names = [series.load(name).name for name in series_names]
    if len(names) > 2 or len(set(names)) < len(names):
        parser.error("--series: one name, or two different ones")
    if options.record and (options.only or names[0] != "stock" or options.layers != (Layer.SELFTESTS,)):
        parser.error(
            "--record: only with all tests, the series stock and the layer selftests, as --selftests uses them"
        )
    require_reports(options.reports)
    terminal, store = Terminal(), Store(cache_root())
    folder = options.reports / f"selftests-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    built: Selftests = selftests(source.resolve(options.kernel_source, store), store, terminal)
    tests = catalogue(built.kvm, only=options.only, deadline=options.deadline)
    if not tests:
        parser.error(f"--only: no test has {options.only!r} in its name")
    benches = [_prepare(name, options, store, terminal, folder) for name in series_names]
    benches = [replace(bench, spec=host_spec(bench.spec, built.image)) for bench in benches]
    columns = [Column(bench.series, bench.kernel, bench.run(tests, terminal)) for bench in benches]
    if options.record:
        record.write(columns[0].results, [f"Linux {benches[0].kernel['release']}, series {names[0]}"])
    regressions: list[Regression] = []
    if len(columns) == 2:
        regressions = confirm(compare.regressions(columns[0], columns[1]), columns[0], benches[0], terminal)
    status, why = verdict(columns, regressions)
    report = folder / "selftests.json"
    text = {**compare.document(columns, regressions), "selftests": built.key, "exit": status}
    report.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    lines = [compare.table(columns, regressions), ""]
    lines += [f"{column.series}: {compare.counts(column.results)}" for column in columns]
    for regression in regressions:
        repeats = f" ({regression.repeats - regression.unsteady} of {regression.repeats} repeats pass on {names[0]})"
        kind = "REGRESSION" if regression.counts else "unsteady"
        lines.append(f"{kind}  {regression.test.name}: {regression.change}{repeats if regression.repeats else ''}")
    print("\n".join([*lines, f"report: {report}", f"exit {status}: {why}"]))  # noqa: T201
    return status


if __name__ == "__main__":
    end_with(main)
