# SPDX-License-Identifier: GPL-2.0-or-later
"""The page is made twice: by the report and by the verifier, each with words of its own. They must be the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from signoff.contract import Class, Mode
from signoff.record import Tier
from signoff.report import page, threats
from signoff.verdict import Status
from tests.unit.report_samples import KEY, small_report
from tests.unit.test_tampering import seal_again
from verifier import page as verifiers_page
from verifier import threats as verifiers_threats
from verifier import words
from verifier.report import TrustAnchors, verify
from verifier.tree import load


def test_the_words_are_the_same() -> None:
    assert {str(class_): (class_.heading, class_.sentence) for class_ in Class} == words.CLASSES
    assert {str(tier): (tier.proves, tier.does_not_prove) for tier in Tier} == words.TIERS
    assert {str(kind): text for kind, text in page._KINDS.items()} == words.KINDS
    assert {str(fate): text for fate, text in page._FATES.items()} == words.FATES_MEAN
    assert {str(word): text for word, text in page.STATUS_MEANING.items()} == words.MEANING
    assert [str(word) for word in page._FATES] == list(words.FATES_MEAN)


def test_the_table_of_threats_is_the_same() -> None:
    ours = [(threat.part, threat.words, tuple(map(str, threat.classes)), threat.names, threat.writes, threat.note)
            for threat in threats._THREATS]  # fmt: skip
    theirs = [(part, *threat) for part, each in verifiers_threats.PARTS.items() for threat in each]
    assert ours == theirs


@pytest.mark.parametrize(
    "story",
    [
        {},
        {"mode": Mode.PLAIN},
        {"mode": Mode.PLAIN, "statuses": {"kernel_can_map": Status.FAIL}},
        {"statuses": {"host_cannot_read": Status.FAIL, "guest_works": Status.ERROR}},
        {"statuses": {"guest_works": Status.FAIL, "host_cannot_write": Status.MISS}},
        {"problems": ("a plugin",), "given_up": "no disk", "kernel": None, "tier": None},
        {"interrupted": True, "statuses": {"guest_works": Status.FAIL}},
        {"tier": Tier.NESTED, "host": {"devices": "kvm"}, "series": "", "durations": {"boot": 3.5, "all": 75.0}},
    ],
)
def test_each_form_of_a_report_is_made_anew(tmp_path: Path, story: dict[str, Any]) -> None:
    """Not only of one that is PROTECTED."""
    report = small_report(tmp_path, KEY, **story)
    faults = [
        fault
        for fault in verify(load(report), TrustAnchors()).faults
        if fault.startswith(("signoff", "junit", "kcidb"))
    ]
    assert faults == []
    page_file = report / "signoff.html"
    page_file.write_bytes(page_file.read_bytes().replace(b"</h1>", b"</h1 >", 1))
    seal_again(report)
    assert any("signoff.html: line" in fault for fault in verify(load(report), TrustAnchors()).faults)


def test_bytes_that_are_no_text_are_not_taken_for_their_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifiers_page, "render_page", lambda _: "<p>\\xff</p>")
    tree = SimpleNamespace(read=lambda name: b"<p>\xff</p>" if name == "signoff.html" else b"")
    derivation: Any = SimpleNamespace(run=SimpleNamespace(tree=tree))
    _, fault = verifiers_page.page(derivation)  # the first is of the style
    assert fault.startswith("signoff.html: line 1 is")
