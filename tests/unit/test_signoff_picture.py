# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.paths import PROJECT
from signoff.contract import Mode
from signoff.contract_files import load
from signoff.evidence import Evidence
from signoff.memory_map import Fate, MemoryMap, Span, overlay, spans
from signoff.report import write
from signoff.report.picture import GAP, MOST_LINES, Picture, pictures
from signoff.results import Row, without_verdict
from signoff.verdict import Status
from tests.unit.test_signoff_report import RECORD

PAGE = 4096
CLAIM = load(PROJECT / "tests_e2e" / "contract").claims[0]
FATES = st.dictionaries(st.integers(0, 2000).map(lambda page: page * PAGE), st.sampled_from(Fate), max_size=60)


def expand(runs: Sequence[tuple[int, int, Fate]]) -> dict[int, Fate]:
    return {gpa: fate for first, count, fate in runs for gpa in range(first, first + count * PAGE, PAGE)}


def row(*maps: MemoryMap, status: Status = Status.PASS) -> Row:
    return Row(CLAIM, dataclasses.replace(without_verdict(CLAIM, Mode.PROTECTED, "", status, "why"), maps=maps))


def draw(*maps: MemoryMap) -> Picture:
    (picture,) = pictures([row(*maps)])
    return picture


def strokes(picture: Picture) -> dict[tuple[int, int], Fate]:
    """The dots of a picture: where, and how the page there fared."""
    results: dict[tuple[int, int], Fate] = {}
    for fate, path in picture.layers:
        for x, y, count in re.findall(r"M(\d+) (\d+)h(\d+)", path):
            for dot in range(int(x), int(x) + int(count)):
                assert results.setdefault((dot, int(y)), fate) == fate
    return results


@given(FATES)
def test_runs_hold_the_same_pages_and_no_two_could_be_one(fates: Any) -> None:
    runs = spans(fates)
    assert expand(runs) == fates
    for left, right in pairwise(runs):
        assert left.first + left.pages * PAGE < right.first or left.fate is not right.fate


@given(FATES, FATES)
def test_a_page_keeps_the_worst_that_it_met(first: Any, second: Any) -> None:
    both = expand(overlay([spans(first), spans(second)]))
    assert both.keys() == first.keys() | second.keys()
    order = list(Fate)
    for gpa, fate in both.items():
        assert order.index(fate) == min(order.index(fates[gpa]) for fates in (first, second) if gpa in fates)


@given(FATES)
def test_every_page_is_one_dot(fates: Any) -> None:
    picture = draw(MemoryMap("g", "way", 64, 1, spans(fates)))
    dots = strokes(picture)
    assert len(dots) == len(fates)
    assert {fate: list(dots.values()).count(fate) for fate in Fate} == picture.counts
    assert all(x < picture.width and y < picture.height for x, y in dots)


def test_a_line_is_a_mebibyte_and_a_hole_is_a_gap() -> None:
    low, high = Span(0, 300, Fate.PRIVATE), Span(0xFFF00000, 256, Fate.READABLE)
    picture = draw(MemoryMap("g", "way", 64, 1, (low, high)))
    assert (picture.width, picture.height) == (256, 2 + GAP + 1)
    assert dict(picture.layers) == {Fate.PRIVATE: "M0 0h256M0 1h44", Fate.READABLE: f"M0 {2 + GAP}h256"}
    assert picture.ticks == ((0, "0x0"), (2 + GAP, "0xfff00000"))


def test_a_large_guest_has_longer_lines() -> None:
    picture = draw(MemoryMap("g", "way", 64, 1, (Span(0, (16 << 30) // PAGE, Fate.PRIVATE),)))
    assert (picture.width, picture.height) == (4096, MOST_LINES)


def test_a_single_leaked_page_is_circled() -> None:
    leak = Span(256 * PAGE + 8 * PAGE, 1, Fate.LEAKED)
    picture = draw(MemoryMap("g", "way", 64, 1, (Span(0, 264, Fate.PRIVATE), leak)))
    (mark,) = picture.marks
    assert (mark.x, mark.y, mark.fate) == (8.5, 1.5, Fate.LEAKED)
    assert mark.radius > 4
    assert picture.bad == (leak,)


def test_what_leaked_by_one_way_is_leaked() -> None:
    way = [MemoryMap("g", name, 64, 1, (Span(0, 1, fate),)) for name, fate in (("a", Fate.PRIVATE), ("b", Fate.LEAKED))]
    result = pictures([row(way[0]), row(way[1])])
    assert [(entry.guest, entry.counts[Fate.LEAKED], len(entry.sweeps)) for entry in result] == [("g", 1, 2)]


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    result = Evidence.create(tmp_path / "reports", RECORD.run, PROJECT / "tests_e2e" / "contract")
    result.write_record(RECORD)
    return result


def test_the_page_draws_it_and_the_document_has_it(evidence: Evidence) -> None:
    result = MemoryMap("<guest>", "way", 64, 7, (Span(0, 2, Fate.PRIVATE), Span(2 * PAGE, 1, Fate.LEAKED)))
    evidence.append(row(result, status=Status.FAIL).result)
    write(evidence.folder)
    (document,) = json.loads((evidence.folder / "signoff.json").read_text())["claims"][0]["maps"]
    assert document == {
        "guest": "<guest>",
        "way": "way",
        "size": 64,
        "rate": 7,
        "spans": [[0, 2, "private"], [8192, 1, "leaked"]],
    }
    page = (evidence.folder / "signoff.html").read_text()
    assert '<path class="leaked" d="M2 0h1">' in page
    assert '<span class="alarm">⚠ 1 leaked</span>' in page
    assert "Guest “&lt;guest&gt;”" in page
    assert page.count("<circle") == 2


def test_a_run_without_a_sweep_draws_nothing(evidence: Evidence) -> None:
    write(evidence.folder)
    assert "<svg" not in (evidence.folder / "signoff.html").read_text()


def test_what_did_not_pass_stands_at_the_top_and_each_status_can_be_shown_alone(evidence: Evidence) -> None:
    evidence.append(row(status=Status.FAIL).result)
    write(evidence.folder)
    page = (evidence.folder / "signoff.html").read_text()
    top = page[page.index('class="not-passed"') : page.index('class="overview"')]
    assert f'<a href="#{CLAIM.id}">' in top
    assert 'id="show-FAIL"' in page
    assert 'id="show-PASS"' not in page
    assert "#show-FAIL:checked ~ .shown" in (evidence.folder / "signoff.css").read_text()
