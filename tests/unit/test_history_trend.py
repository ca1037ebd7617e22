# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of all nights: it shows what was seeded, leads to the evidence, and no run can make it do anything."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from history.__main__ import main
from history.database import History
from history.model import read_report
from history.trend import short_names, to_html
from signoff.verdict import Status
from tests.unit.history_samples import claim, document, run_id, write
from tests.unit.night_samples import Nights, World, matrix, twenty

VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """A page's text, links and signs; refuses what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def links(self) -> list[str]:
        return [str(attrs["href"]) for tag, attrs in self.tags if tag == "a"]


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    with History(tmp_path / "history.sqlite") as history:
        yield Nights(tmp_path, matrix("one", "two"), history)


def write_page(nights: Nights, *, pages: bool = True) -> str:
    if pages:
        for file in nights.folder.glob("nights/*/*/*/signoff.json"):
            (file.parent / "signoff.html").write_text("<h1>a report</h1>")
    return to_html(nights.history, nights.folder / "out/trend.html")


def signs(text: str, cell: str) -> str:
    """The signs of a cell, night by night; a blank for a night in which nothing was to be done."""
    head = rf"<tr><th scope=\"row\"><a href=\"#track-\d+\">{re.escape(cell)}</a>"
    row = re.findall(rf"{head}(.*?)</tr>", text, re.DOTALL)[0]
    squares = [re.sub(r"<[^>]*>", "", square).strip() for square in row.split("<td>")[1:]]
    return "".join(square[:1] or " " for square in squares)


def heads(text: str) -> list[str]:
    """What stands above the columns."""
    return re.findall(r'<th scope="col">(.*?)</th>', text)


def test_nights_of_the_same_day_are_told_apart(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    nights.night()
    nights.clock = nights.clock.replace(hour=13, minute=5)
    nights.night()
    assert heads(write_page(nights)) == [
        "<span>11-01</span>",
        "<span>11-02</span><span>01:00</span>",
        "<span>11-02</span><span>13:05</span>",
    ]


def test_the_first_bad_patch_stands_at_its_night_and_above_all_in_the_newest(nights: Nights) -> None:
    nights.plan = matrix("one", "two", bisect=1)
    nights.night()
    nights.next_day()
    both = (("0001-a.patch", "a"), ("0002-b.patch", "b"))
    bad = {("series=one", "guest_works"): [Status.FAIL]}
    nights.night(World(statuses=bad, patches=both))
    text = write_page(nights)
    assert "<br>first bad: <b>2 of 2 patches: 0002-b.patch</b>" in text
    assert "<dt>2026-11-02 01:00</dt><dd>guest_works: 2 of 2 patches: 0002-b.patch</dd>" in text
    nights.next_day()
    nights.night(World(statuses=bad, patches=both))
    text = write_page(nights)
    assert "first bad: " not in text
    assert "<dd>guest_works: 2 of 2 patches: 0002-b.patch</dd>" in text


def test_the_matrix_shows_each_night_as_it_was_seeded(nights: Nights) -> None:
    twenty(nights)
    text = write_page(nights)
    assert signs(text, "series=one") == "✓✓~✓▼✗✗✗✓~✓†✓✓!▼✓✓✓~"
    assert signs(text, "series=two") == "✓✓✓✓✓✓~✓✓▼✗✗✗✗!✗⊘✗✗✓"  # it came first in the night that was killed
    assert "No regressions" in text
    assert 'title="2026-11-05 01:00: 1 regressed"' in text
    assert 'title="2026-11-06 01:00: 1 not PASS, as before"' in text
    assert 'title="2026-11-10 01:00: 1 flaky"' in text
    assert "night of 2026-11-20: no regressions, 1 flaky, 2 of 2 cells tried" in text
    assert text.count("the kernel panicked") == 1
    assert text.count("no space left for /var/cache") == 2
    jumps = re.findall(r'<path class="jump (\w+)"[^>]*><title>([^<]*)</title>', text)
    assert jumps == [("slower", "2026-11-13 01:00: slower, 40.0 s")]
    for words in ("kernel: 6.12.117 -&gt; 6.12.118", "patch 0001-a.patch"):
        assert words in text
    Page(text)


def test_the_matrix_has_room_for_long_names_of_cells() -> None:
    a, b = "series=/x/y/my-series mode=plain only=gup or zap", "series=stock kernel=/l/linux only=gup or zap"
    assert short_names([a, b]) == {a: "series=…/my-series mode=plain", b: "series=stock kernel=…/linux"}
    assert short_names([a]) == {a: "series=…/my-series mode=plain only=gup or zap"}
    first, second = "series=/x/a mode=plain", "series=/y/a mode=plain"  # these would be the same
    assert short_names([first, second]) == {first: first, second: second}
    assert short_names([]) == {}


def test_only_the_newest_nights_are_shown_and_judged_by_all(nights: Nights) -> None:
    twenty(nights)
    text = to_html(nights.history, nights.folder / "trend.html", 5)
    assert signs(text, "series=one") == "▼✓✓✓~"
    assert signs(text, "series=two") == "✗⊘✗✗✓"


def test_the_page_allows_its_own_style_and_nothing_else(nights: Nights) -> None:
    nights.night(World(statuses={("series=one", "guest_works"): [Status.FAIL]}))
    text = write_page(nights)
    style = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0]
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    expected = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert html.unescape(policy) == expected
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "img", "iframe", "object", "form"}]
    assert not [attrs for _, attrs in page.tags if any(name == "style" or name.startswith("on") for name in attrs)]
    assert not re.search(r"url\(|@import|https?:", text.replace("http-equiv", ""))


def test_links_lead_to_evidence_that_is_there(nights: Nights) -> None:
    nights.night()
    nights.next_day()
    nights.night(World(statuses={("series=one", "guest_works"): [Status.FAIL]}))
    assert not [link for link in Page(write_page(nights, pages=False)).links() if not link.startswith("#")]
    listing = [link for link in Page(write_page(nights)).links() if not link.startswith("#")]
    assert len(listing) == 5  # four squares, and the bar of the claim that failed
    for link in listing:
        file, _, anchor = unquote(link).partition("#")
        assert (nights.folder / "out" / file).resolve().is_file()
        assert anchor in ("", "guest_works")
    assert sum("#guest_works" in link for link in listing) == 1


def test_a_strangers_words_and_paths_do_nothing_on_the_page(tmp_path: Path) -> None:
    evil = "</title></style><script>alert(1)</script><svg onload=x> \" ' \x1b[2J\u202e"
    report = document(
        run_id(1), [claim("works", Status.FAIL, sentence=evil, why=evil)], series=f"x{evil}", host={evil: evil}
    )
    run = read_report(write(tmp_path, report))
    with History(tmp_path / "h") as history:
        history.add(run.model_copy(update={"folder": "javascript:alert(1)//"}))
        history.add(run.model_copy(update={"id": run_id(2), "folder": "a\0b", "sha256": "0" * 64}))
        text = to_html(history, tmp_path / "trend.html")
    page = Page(text)
    assert not [tag for tag, attrs in page.tags if tag == "script" or "onload" in attrs]
    assert [link for link in page.links() if not link.startswith("#")] == []
    assert text.replace("\n", "").isprintable()


def test_runs_outside_of_any_night_have_columns_of_their_own(tmp_path: Path) -> None:
    with History(tmp_path / "h") as history:
        for number, status in ((1, Status.PASS), (2, Status.FAIL)):
            history.add(read_report(write(tmp_path / "r", document(run_id(number), [claim("works", status)]))))
        text = to_html(history, tmp_path / "trend.html")
    assert signs(text, "a-series, mode protected, emulated") == "✓▼"
    assert "No night has been run yet" in text


def test_the_page_of_many_claims_stays_small(nights: Nights) -> None:
    names = [f"host_cannot_read_private_page_in_way_{number}" for number in range(200)]
    for _ in range(3):
        nights.night(World(claims=names))
        nights.next_day()
    text = write_page(nights)
    assert len(text) < 2500 * 400
    assert text.count("200 claims without a change") == 2


def test_the_commands_write_page_and_summary(
    nights: Nights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.night()
    nights.next_day()
    nights.night(World(statuses={("series=one", "guest_works"): [Status.FAIL]}))
    where = ("--history", str(tmp_path / "history.sqlite"))
    assert main(["trend", *where, str(tmp_path / "new/trend.html")]) == 0
    assert (tmp_path / "new/trend.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["summary", *where]) == 1
    assert "REGRESSED  guest_works" in capsys.readouterr().out
    assert main(["summary", *where, "20261101"]) == 0
    assert main(["summary", *where, "--markdown"]) == 1
    assert "| --- |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["trend", *where, "--nights", "0", str(tmp_path / "x")])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["trend.html"]
