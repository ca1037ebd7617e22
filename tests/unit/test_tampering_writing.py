# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts by how things are written and where files lie, as in ``test_tampering``; each of them said PROTECTED once.

Numbers and words that stand on a signed page and nothing was held against, and forms that other readers may read
otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.test_tampering import (
    REMADE,
    SEALED,
    Edit,
    both,
    change_seen,
    check,
    line,
    record,
    remake_or_seal,
    saying,
    seal_again,
    swap,
)
from tests.unit.test_tampering_kinds import ORACLE, SWEEP, of_json, write_file

READS = "host_cannot_read"


def anew(name: str, change: Callable[[str], str]) -> Edit:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_text()).encode())


def elsewhere(file: str) -> Edit:
    """Evidence of a claim that does not lie in the claim's folder."""
    return both(write_file(file, "x"), line("guest_works", lambda row: row["evidence"].append(file)))


ATTEMPTS: dict[str, tuple[str, Edit, str]] = {
    "json_in_other_lines": (SEALED, anew("signoff.json", lambda t: t.replace("\n", "\r\n")), "json is not written as"),
    "json_in_another_order": (
        SEALED,
        anew("signoff.json", lambda t: json.dumps(json.loads(t), sort_keys=True)),
        "signoff.json is not written as sealproof writes it",
    ),
    "sarif_with_blanks": (SEALED, anew("signoff.sarif", lambda t: f"{t}\n\n"), "signoff.sarif is not written as"),
    "kcidb_with_blanks": (SEALED, anew("kcidb.json", lambda t: f"{t} "), "kcidb.json is not written as"),
    "junit_in_another_encoding": (
        SEALED,
        lambda f: (f / "junit.xml").write_bytes(
            (f / "junit.xml").read_text().replace("utf-8", "utf-16").encode("utf-16")
        ),
        "junit.xml is not written as",
    ),
    "junit_with_a_letter_by_its_number": (
        SEALED,
        swap("junit.xml", "observed", "&#111;bserved"),
        "junit.xml is not written as",
    ),
    "an_address_that_is_a_word": (
        REMADE,
        change_seen(READS, "subject", saying(si_addr="proved on SEV-SNP")),
        "an observation is malformed",
    ),
    "a_fact_that_is_none": (
        REMADE,
        change_seen(READS, "subject", saying(facts=[["tier", 7]])),
        "a fact is not text",
    ),
    "cuts_before_the_data": (
        REMADE,
        change_seen(READS, "subject", saying(cuts=[-5])),
        "its cuts are not offsets into its bytes",
    ),
    "cuts_that_go_back": (
        REMADE,
        change_seen("kernel_can_map", "subject", saying(cuts=[9, 4])),
        "its cuts are not offsets into its bytes",
    ),
    "cuts_that_are_texts": (
        REMADE,
        change_seen("kernel_can_map", "subject", saying(cuts=["9"])),
        "its cuts are not offsets into its bytes",
    ),
    "a_sweep_faster_than_it_was": (
        REMADE,
        line(ORACLE, lambda row: row["maps"][0].update(rate=10**9)),
        "is not what its sweep brought",
    ),
    "a_sweep_in_no_time": (REMADE, of_json(SWEEP, saying(ns=0)), "is a sweep of 0 ns"),
    "evidence_in_another_folder": (REMADE, elsewhere("evidence/more/x.txt"), "is not in the claim's folder"),
    "evidence_among_the_logs": (REMADE, elsewhere("logs/x.log"), "is not in the claim's folder"),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    far, edit, words = ATTEMPTS[name]
    edit(report)
    if far == SEALED:
        seal_again(report)
    else:
        remake_or_seal(report)
    code, text = check(report, capsys)
    assert (code, words in text) == (3, True), text


@pytest.mark.parametrize("field", ["series", "machine"])
def test_a_letter_of_another_script_is_seen(report: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    record(**{field: "am\u0435"})(report)
    remake_or_seal(report)
    _, text = check(report, capsys)
    assert "am\\u0435" in text
