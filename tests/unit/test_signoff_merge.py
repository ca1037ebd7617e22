# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from common.errors import UserInputError
from signoff.contract import Mode
from signoff.evidence import read
from signoff.fleet import matrix, shares
from signoff.merge import lost_claims, merge
from signoff.overall import RunVerdict
from signoff.record import Tier
from signoff.report import write
from signoff.report.data import Report
from signoff.report.document import SCHEMA
from signoff.report.terminal import lines
from signoff.verdict import Status
from tests.unit.fleet_samples import CLAIMS, FIRST, HEALTH, KERNEL, SECOND, THIRD, WELL, part
from tests.unit.report_samples import MADE_OF


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def merge_all(reports: Path, *folders: Path, **more: Any) -> tuple[Report, Path]:
    folder = merge(dict.fromkeys(folders, 2.5), reports, command="python -m fleet run", **more)
    return write(folder), folder


def statuses(report: Report) -> dict[str, Status]:
    return {row.claim.id: row.result.status for row in report.rows}


def test_parts_of_two_machines_are_as_one_run(reports: Path, tmp_path: Path) -> None:
    every = {claim.id: Status.PASS for claim in CLAIMS}
    alone = write(part(tmp_path / "alone", 9, "one", every))
    half = len(CLAIMS) // 2
    names = [claim.id for claim in CLAIMS]
    first_part = part(reports, 1, "one", {**dict.fromkeys(names[:half], Status.PASS), **WELL})
    two = part(reports, 2, "two", {**dict.fromkeys(names[half:], Status.PASS), **WELL})
    report, folder = merge_all(reports, first_part, two)
    assert statuses(report) == statuses(alone)
    assert report.overall == alone.overall
    assert report.overall.word is RunVerdict.PROTECTED
    assert report.fleet.machines_behind(names[0]) == ["one"]
    assert report.fleet.machines_behind(names[half]) == ["two"]
    assert report.fleet.machines_behind(HEALTH[0]) == ["one", "two"]
    document = json.loads((folder / "signoff.json").read_text())
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)
    assert [row["machine"] for row in document["fleet"]["words"][names[half]]] == ["two"]


def test_evidence_is_found_in_the_merged_folder_and_parts_are_as_they_came(reports: Path) -> None:
    first_part = part(reports, 1, "one", {FIRST: Status.PASS, **WELL})
    report, folder = merge_all(reports, first_part)
    for row in report.rows:
        for name in row.result.evidence:
            assert (folder / name).is_file()
    names = [f"parts/{first_part.name}/evidence/{FIRST}/{role}.jsonl" for role in ("subject", "control")]
    assert list(report.rows[0].result.evidence) == names
    copy = folder / "parts" / first_part.name
    for path in first_part.rglob("*"):
        assert path.is_dir() or (copy / path.relative_to(first_part)).read_bytes() == path.read_bytes()


RANKED = (Status.FAIL, Status.ERROR, Status.MISS, Status.PASS, Status.SKIP)


@pytest.mark.parametrize(("worse", "better"), list(pairwise(RANKED)))
@pytest.mark.parametrize("order", [1, -1])
def test_of_two_words_the_worse_counts(reports: Path, worse: Status, better: Status, order: int) -> None:
    statuses = [worse, better][::order]
    folders = [part(reports, at, f"m{at}", {FIRST: status, **WELL}) for at, status in enumerate(statuses)]
    report, _ = merge_all(reports, *folders)
    row = report.rows[0]
    assert row.result.status is worse
    assert row.result.why == next(word.why for word in report.fleet.words[FIRST] if word.status is worse)
    assert [word.status for word in report.fleet.words[FIRST]] == [worse, better]


def test_what_a_part_did_not_run_says_nothing(reports: Path) -> None:
    first_part = part(reports, 1, "one", {FIRST: Status.PASS, **WELL})
    two = part(reports, 2, "two", {SECOND: Status.PASS, **WELL})
    report, _ = merge_all(reports, first_part, two)
    result = statuses(report)
    assert (result[FIRST], result[SECOND], result[THIRD]) == (Status.PASS, Status.PASS, Status.MISS)
    assert report.overall.word is RunVerdict.NOT_PROVEN


@pytest.mark.parametrize("how", [{"ended": ""}, {"interrupted": True}, {"given_up": "the set-up failed: no disk"}])
def test_a_part_that_was_cut_short_proves_nothing(reports: Path, how: dict[str, Any]) -> None:
    cut = part(reports, 1, "one", {FIRST: Status.PASS, SECOND: Status.FAIL, THIRD: Status.ERROR}, **how)
    assert lost_claims([cut], [FIRST, SECOND, THIRD]) == [FIRST, THIRD]
    again = part(reports, 2, "two", {THIRD: Status.PASS, **WELL})
    assert lost_claims([cut, again], [FIRST, SECOND, THIRD]) == [FIRST]
    report, _ = merge_all(reports, cut, again)
    result = statuses(report)
    assert (result[FIRST], result[SECOND], result[THIRD]) == (Status.MISS, Status.FAIL, Status.PASS)
    assert shares(report.fleet)[0].cut_short == (cut_words(how),)
    assert any("cut short" in line for line, _ in lines(report, reports, 100))


def cut_words(how: dict[str, Any]) -> str:
    return how.get("given_up") or ("interrupted" if "interrupted" in how else "killed")


def test_a_fail_of_a_part_that_was_cut_short_is_not_mended_by_a_pass_elsewhere(reports: Path) -> None:
    cut = part(reports, 1, "one", {FIRST: Status.FAIL}, ended="")
    report, _ = merge_all(reports, cut, part(reports, 2, "two", {FIRST: Status.PASS, **WELL}))
    assert statuses(report)[FIRST] is Status.FAIL
    assert report.overall.word is RunVerdict.NOT_PROTECTED


def test_every_part_must_have_looked_after_its_own_host(reports: Path) -> None:
    careless = part(reports, 1, "one", {FIRST: Status.PASS})
    report, _ = merge_all(reports, careless, part(reports, 2, "two", {SECOND: Status.PASS, **WELL}))
    assert statuses(report)[HEALTH[0]] is Status.MISS


def test_a_host_that_was_not_well_on_one_machine_is_a_fail(reports: Path) -> None:
    ill = part(reports, 1, "one", {FIRST: Status.PASS, **WELL, HEALTH[0]: Status.FAIL})
    report, _ = merge_all(reports, part(reports, 2, "two", {SECOND: Status.PASS, **WELL}), ill)
    assert statuses(report)[HEALTH[0]] is Status.FAIL
    assert report.fleet.machines_behind(HEALTH[0]) == ["one"]


def test_checks_of_several_parts_name_their_machine(reports: Path) -> None:
    folders = [part(reports, at, f"m{at}", {FIRST: Status.PASS, **WELL}) for at in range(2)]
    report, _ = merge_all(reports, *folders)
    row = next(row for row in report.rows if row.claim.id == HEALTH[0])
    assert [check.name for check in row.result.checks] == ["m0, 000000: splats", "m1, 000001: splats"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mode": Mode.PLAIN}, "mode"),
        ({"series": "another"}, "series"),
        ({"commit": "1" * 40}, "commit of sealproof"),
        ({"made_of": {**MADE_OF, "sealproof's files": "99" * 32}}, "files of sealproof"),
        ({"kernel": dataclasses.replace(KERNEL, patches=())}, "patches of the series"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(reports: Path, changes: Any, field: str) -> None:
    first_part = part(reports, 1, "one", {FIRST: Status.PASS, **WELL})
    two = part(reports, 2, "two", {SECOND: Status.PASS, **WELL}, **changes)
    with pytest.raises(UserInputError, match=f"they differ in the {field}: ") as caught:
        merge_all(reports, first_part, two)
    assert str(first_part) in str(caught.value)
    assert str(two) in str(caught.value)


def test_parts_of_different_contracts_are_refused(reports: Path) -> None:
    first_part = part(reports, 1, "one", {FIRST: Status.PASS, **WELL})
    two = part(reports, 2, "two", {SECOND: Status.PASS, **WELL}, ended="")
    contract = two / "contract" / "contract.toml"
    contract.write_text(f"{contract.read_text()}# one byte more\n")
    with pytest.raises(UserInputError, match="they differ in the contract"):
        merge_all(reports, first_part, two)


def test_a_part_that_is_damaged_is_refused(reports: Path) -> None:
    first_part = part(reports, 1, "one", {FIRST: Status.FAIL, **WELL})
    journal = first_part / "claims.jsonl"
    journal.write_text(journal.read_text().replace('"FAIL"', '"PASS"', 1))
    with pytest.raises(UserInputError, match=r"damaged: these files do not match SHA256SUMS: claims\.jsonl"):
        merge_all(reports, first_part)


def test_a_part_named_twice_a_merged_one_and_none_at_all_are_refused(reports: Path, tmp_path: Path) -> None:
    first_part = part(reports, 1, "one", {FIRST: Status.PASS, **WELL})
    twin = shutil.copytree(first_part, tmp_path / "elsewhere" / first_part.name)
    with pytest.raises(UserInputError, match="named twice"):
        merge_all(reports, first_part, twin)
    _, folder = merge_all(reports, first_part)
    with pytest.raises(UserInputError, match="already a merged report"):
        merge_all(reports, folder)
    with pytest.raises(UserInputError, match="no part to merge"):
        merge_all(reports)


def test_a_problem_of_a_part_makes_the_whole_no_proof(reports: Path) -> None:
    every = {claim.id: Status.PASS for claim in CLAIMS}
    report, _ = merge_all(reports, part(reports, 1, "one", every, problems=("two tests claim x",)))
    assert report.overall.word is RunVerdict.NOT_PROVEN
    assert report.problems == ("one: two tests claim x",)


def test_the_problem_of_a_part_that_was_tried_again_does_not(reports: Path) -> None:
    cut = part(reports, 1, "one", {}, given_up="the set-up failed", problems=("the set-up failed",), kernel=None)
    report, _ = merge_all(reports, cut, part(reports, 2, "two", {claim.id: Status.PASS for claim in CLAIMS}))
    assert report.overall.word is RunVerdict.PROTECTED


def test_tiers_are_not_mixed_silently(reports: Path) -> None:
    every = {claim.id: Status.PASS for claim in CLAIMS}
    real = {"machine": "node", "processor": "AuthenticAMD, EPYC", "devices": "kvm"}
    no_emulator = {name: sha256 for name, sha256 in MADE_OF.items() if name != "emulator"}
    two = part(reports, 2, "two", every, tier=Tier.BARE_METAL, host=real, made_of=no_emulator)
    report, _ = merge_all(reports, part(reports, 1, "one", every), two)
    assert report.overall.word is RunVerdict.NOT_PROVEN
    assert "different tiers (bare-metal, emulated)" in report.problems[0]


def test_the_matrix_shows_what_differs_and_the_verdicts(reports: Path) -> None:
    intel = {"processor": "GenuineIntel, Xeon", "started": "cold", "devices": "kvm"}
    other = dataclasses.replace(KERNEL, build_id="12" * 20, running_build_id="12" * 20)
    every = {FIRST: Status.PASS, SECOND: Status.PASS, **WELL}
    first_part = part(reports, 1, "one", every)
    two = part(reports, 2, "two", every)
    three = part(reports, 3, "three", {**every, SECOND: Status.SKIP}, host=intel, kernel=other)
    report, folder = merge_all(reports, first_part, two, three)
    result = matrix(report.fleet)
    assert result.kinds == (("one", "two"), ("three",))
    assert result.differing == (
        ("build id", ("ab" * 20, "12" * 20)),
        ("processor", ("AuthenticAMD, QEMU", "GenuineIntel, Xeon")),
    )
    assert [(claim, [word.status for word in words]) for claim, words in result.verdicts] == [
        (SECOND, [Status.PASS, Status.SKIP])
    ]
    page = (folder / "signoff.html").read_text()
    for words in ("Which machine proved what", "GenuineIntel", "one, two", "the host has no VFIO"):
        assert words in page
    assert "processor" not in report.record.host  # it is not the same everywhere


def test_a_merged_run_is_read_back_and_its_reports_are_the_same_when_written_again(reports: Path) -> None:
    report, folder = merge_all(reports, part(reports, 1, "one", {FIRST: Status.PASS, **WELL}), durations={"job": 3.0})
    before = (folder / "SHA256SUMS").read_text()
    assert write(folder) == report
    assert (folder / "SHA256SUMS").read_text() == before
    assert read(folder).record.durations == {"job": 3.0}
    assert not [name for name in report.logs if name.startswith("parts/")]


def test_machines_of_one_name_are_told_apart_by_their_processors(reports: Path) -> None:
    """As many call themselves: 'debian', 'localhost'."""
    folders = [
        part(reports, at, "debian", {name: Status.PASS, **WELL}, host={"cpu": cpu})
        for at, (name, cpu) in enumerate([(FIRST, "EPYC"), (SECOND, "Xeon"), (THIRD, "EPYC")])
    ]
    report, _ = merge_all(
        reports, *folders, part(reports, 9, "other", {FIRST: Status.PASS, **WELL}, host={"cpu": "EPYC"})
    )
    assert [delivered_part.machine for delivered_part in report.fleet.parts] == [
        "debian, EPYC",
        "debian, Xeon",
        "debian, EPYC",
        "other",
    ]
    assert report.fleet.machines_behind(SECOND) == ["debian, Xeon"]


def test_machine_of_one_name_and_one_processor_is_one(reports: Path) -> None:
    host = {"cpu": "EPYC"}
    first_part = part(reports, 1, "debian", {FIRST: Status.PASS, **WELL}, host=host)
    never_began = part(reports, 2, "debian", {SECOND: Status.PASS, **WELL}, host={})
    report, _ = merge_all(reports, first_part, never_began)
    assert {delivered_part.machine for delivered_part in report.fleet.parts} == {"debian"}
