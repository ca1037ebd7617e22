# SPDX-License-Identifier: GPL-2.0-or-later
"""``signoff --kernel A --kernel B``: one run after the other, what differs between them, and what ends the row."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cli import kernels, signoff
from common.errors import UserInputError
from history.side_by_side import column, differing_claims, differing_inputs, to_html, to_text
from signoff.verdict import Status
from tests.unit.history_samples import END, claim, document, run_id, write

OLD, NEW = "6.12.117", "7.3.4"


def both(folder: Path) -> list[Path]:
    """Reports of two kernels: one claim fails on the newer, another sees more there, and one is new."""
    old = [claim("alpha"), claim("beta", observed="EFAULT"), claim("gamma", observed="SIGBUS <b>")]
    new = [
        claim("alpha", Status.FAIL, observed="8 bytes leaked", why="8 bytes leaked"),
        claim("beta", observed="EFAULT"),
        claim("gamma", observed="EIO"),
        claim("delta"),
    ]
    return [
        write(folder / name, document(run_id(number), claims, kernel=name))
        for number, (name, claims) in enumerate(((OLD, old), (NEW, new)))
    ]


def test_what_differs_is_told_and_nothing_else(tmp_path: Path) -> None:
    first_run, two = (column(name, folder) for name, folder in zip(("six", "seven"), both(tmp_path), strict=True))
    rows = {
        row.name: [(cell.status, cell.observed) for cell in row.cells] for row in differing_claims([first_run, two])
    }
    assert rows == {
        "alpha": [(Status.PASS, ""), (Status.FAIL, "8 bytes leaked")],
        "gamma": [(Status.PASS, "SIGBUS <b>"), (Status.PASS, "EIO")],
        "delta": [(None, "not in its contract"), (Status.PASS, "")],
    }
    inputs = dict(differing_inputs([first_run, two]))
    assert inputs["kernel"] == (OLD, NEW)
    assert "configuration" not in inputs


def test_reports_that_say_the_same_have_no_row(tmp_path: Path) -> None:
    first_run, two = (
        column(str(number), write(tmp_path, document(run_id(number), [claim("alpha", seconds=float(number))])))
        for number in (1, 2)
    )
    assert differing_claims([first_run, two]) == []
    assert "no claim differs" in "\n".join(to_text([first_run, two], {}))
    assert "No claim differs" in to_html([first_run, two], {}, tmp_path / "index.html")


def test_the_page_links_each_claim_and_runs_nothing_of_a_report(tmp_path: Path) -> None:
    columns = [column(name, folder) for name, folder in zip(("six", "seven"), both(tmp_path), strict=True)]
    links: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
            assert tag != "script"
            links.extend(value for name, value in attrs if name == "href" and value)

    page = to_html(columns, {"eight": "it left no report"}, tmp_path / "index.html")
    Reader().feed(page)
    assert f"{NEW}/{run_id(1)}/signoff.html#alpha" in links
    assert "SIGBUS &lt;b&gt;" in page
    assert "it left no report" in page
    assert re.search(r"style-src 'sha256-[^']+'", page.replace("&#39;", "'"))


class Children:
    """Stands for the runs: each leaves a report, or not, and ends with a status."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, of: Callable[[str], tuple[int, dict[str, object] | None]]
    ) -> None:
        self.argv: list[Sequence[str]] = []
        self._of = of
        monkeypatch.setattr("cli.running.run", self.run)

    def run(self, argv: Sequence[str]) -> int:
        self.argv.append(argv)
        status, report = self._of(argv[argv.index("--kernel") + 1])
        if report is not None:
            write(Path(argv[argv.index("--reports") + 1]), report)
        return status


def report_of(kernel: str, **changes: object) -> dict[str, object]:
    return document(run_id(1), [claim("alpha")], kernel=kernel, **changes)


@pytest.mark.parametrize(("statuses", "whole"), [((0, 0), 0), ((0, 1), 1), ((2, 1), 1), ((0, 2), 2), ((0, 130), 2)])
def test_the_status_is_the_worst_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, int], whole: int
) -> None:
    ends = dict(zip((OLD, NEW), statuses, strict=True))
    children = Children(monkeypatch, lambda kernel: (ends[kernel], report_of(kernel)))
    argv = ["--kernel", OLD, f"--kernel-source={NEW}", "-m", "quick", "--reports", str(tmp_path)]
    assert signoff.main(argv) == whole
    assert [words[words.index("-m", 6) + 1] for words in children.argv] == ["quick", "quick"]
    assert len(list(tmp_path.glob("*-kernels/index.html"))) == 1


def test_what_cannot_begin_ends_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    children = Children(monkeypatch, lambda kernel: (2, report_of(kernel) if kernel == OLD else None))
    assert kernels.run([OLD, NEW, "6.1"], ["--reports", str(tmp_path)]) == 2
    output = capsys.readouterr().out
    assert len(children.argv) == 2
    assert re.search(r"7\.3\.4 +it left no report", output)
    assert re.search(r"6\.1 +not begun", output)


def test_what_was_not_begun_is_told_also_if_nothing_could_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Children(monkeypatch, lambda _: (2, None))
    assert kernels.run([OLD, NEW], ["--reports", str(tmp_path)]) == 2
    output = capsys.readouterr().out
    assert re.search(r"6\.12\.117 +it left no report", output)
    assert re.search(r"7\.3\.4 +not begun: the run before did not come to its end", output)


def test_what_was_interrupted_ends_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch, lambda kernel: (2, report_of(kernel, summary=f"The run was interrupted. {END}")))
    assert kernels.run([OLD, NEW], ["--reports", str(tmp_path)]) == 2
    assert len(children.argv) == 1


def test_a_dry_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch, lambda _: (0, None))
    assert kernels.run([OLD, NEW], ["--dry-run", "--reports", str(tmp_path)]) == 0
    assert len(children.argv) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_same_kernel_twice_is_refused() -> None:
    with pytest.raises(UserInputError, match="twice"):
        kernels.run([OLD, OLD], [])


def test_one_kernel_is_a_plain_run(monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[list[str]] = []
    monkeypatch.setattr("pytest.main", lambda: records.append(list(sys.argv)) or 0)
    assert signoff.main(["--kernel", OLD]) == 0
    assert json.dumps(records) == json.dumps([["pytest", "tests_e2e", "--kernel", OLD]])
