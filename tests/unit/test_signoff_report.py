# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from common.errors import NoSpaceError, SealproofError, UserInputError
from common.paths import PROJECT
from signoff.contract import Class, Kind, Mode
from signoff.contract_files import load
from signoff.evidence import Evidence, read
from signoff.observation import Check
from signoff.overall import PROTECTION
from signoff.record import KernelIdentity, PatchIdentity, Record, Tier
from signoff.report import assemble, write
from signoff.report.data import Report
from signoff.report.document import SCHEMA
from signoff.report.threats import _THREATS, threats
from signoff.results import Result, to_check_run, to_run, without_verdict
from signoff.verdict import Status
from tests.unit.signoff_samples import CONTROL, SUBJECT, secret

CONTRACT = PROJECT / "tests_e2e" / "contract"
EVIL = "<script>alert(1)</script> & \x00\x1b[31m\ud7ff"
RECORD = Record(
    run="20261122T205632Z-a1b2c3",
    started="2026-11-22T20:56:32Z",
    ended="2026-11-22T20:58:01Z",
    mode=Mode.PROTECTED,
    command="pytest --series stock",
    commit="0" * 40,
    tier=Tier.EMULATED,
    series="stock",
    kernel=KernelIdentity(
        "6.12.117", "ab" * 20, "linux-source-6.12", "cd" * 32, (PatchIdentity("0001-x.patch", "ef" * 32),)
    ),
    host={"CPU": EVIL},
    durations={"boot": 7.25},
)


CLAIMS = len(load(CONTRACT).claims)


def results() -> list[Result]:
    """One claim of each status, in the contract's order."""
    claims = load(CONTRACT).claims
    runs = tuple(
        [to_run("subject", observation) for observation in SUBJECT]
        + [to_run("control", observation) for observation in CONTROL]
    )
    checks = (to_check_run("subject", Check("sum", "4", EVIL)),)
    listing = []
    for claim, status in zip(claims, [*Status, *[Status.PASS] * len(claims)], strict=False):
        bare = without_verdict(
            claim, Mode.PROTECTED, "A sentence.", status, EVIL if status is not Status.PASS else "refused"
        )
        listing.append(
            dataclasses.replace(
                bare, control="read", shared="read", runs=runs, checks=checks, seconds=1.5, command="pytest"
            )
        )
    return listing


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    result = Evidence.create(tmp_path / "reports", RECORD.run, CONTRACT)
    result.write_record(RECORD)
    return result


def write_report(evidence: Evidence, rows: Sequence[Result]) -> Any:
    for row in rows:
        evidence.append(row)
    write(evidence.folder)
    return json.loads((evidence.folder / "signoff.json").read_text())


def test_the_document_fits_its_schema(evidence: Evidence) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    document = write_report(evidence, results())
    Draft202012Validator(schema).validate(document)
    assert (document["schema"], document["verdict"], document["exit_code"]) == (
        "sealproof-signoff-6",
        "NOT PROTECTED",
        1,
    )
    assert document["counts"] == {"PASS": CLAIMS - 4, "FAIL": 1, "ERROR": 1, "MISS": 1, "SKIP": 1}
    assert document["kernel"]["patches"][0]["name"] == "0001-x.patch"
    assert [claim["id"] for claim in document["claims"]] == [claim.id for claim in load(CONTRACT).claims]


def test_run_whose_folder_cannot_be_completed_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoSpaceError, match="no space left"):
        Evidence.create(tmp_path / "reports", RECORD.run, CONTRACT)
    assert list((tmp_path / "reports").iterdir()) == []


def test_the_schema_refuses_a_pass_without_runs(evidence: Evidence) -> None:
    bare = [dataclasses.replace(row, runs=()) for row in results()]
    with pytest.raises(SealproofError, match="does not fit its schema at claims/0/runs"):
        write_report(evidence, bare)


def test_the_schema_refuses_a_pass_without_a_shared_control(evidence: Evidence) -> None:
    with pytest.raises(SealproofError, match="does not fit its schema at claims/0/shared"):
        write_report(evidence, [dataclasses.replace(row, shared="") for row in results()])


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows(evidence: Evidence) -> None:
    write_report(evidence, results())
    page = (evidence.folder / "signoff.html").read_text()
    assert not re.search(r"(https?:)?//[a-z]", page)
    assert not re.search(r"<script|<style|style=|<img|@import|url\(", page)
    assert re.findall(r"<link [^>]*>", page) == ['<link rel="stylesheet" href="signoff.css">']
    assert "&lt;script&gt;" in page
    for link in re.findall(r'href="([^"#][^"]*)"', page):
        assert (evidence.folder / link).exists() or link.startswith("evidence/")
    assert all(f'<i aria-hidden="true">{symbol}</i>' in page for symbol in "✓✗!?»")
    assert "speculative execution" in page


def lines_of(page: str, claim: str) -> list[tuple[str, str]]:
    """What a claim's line shows beside its name: label and text."""
    (summary,) = re.findall(rf'<details class="claim \w+" id="{claim}">\s*<summary>(.*?)</summary>', page, re.DOTALL)
    return re.findall(r'<span class="label">(.*?)</span>(.*?)</div>', summary)


def test_a_probe_stands_beside_both_its_controls(evidence: Evidence) -> None:
    claim = load(CONTRACT).claims[0]
    row = dataclasses.replace(results()[0], expected="E", observed="refused", control="read", shared="read as well")
    write_report(evidence, [row])
    page = (evidence.folder / "signoff.html").read_text()
    labels = ("expected", "tested", "plain", "shared")
    assert lines_of(page, claim.id) == list(zip(labels, ("E", "refused", "read", "read as well"), strict=True))
    assert "<div>Page under test</div><div>Control: plain page</div><div>Control: shared page</div>" in page
    (table,) = re.findall(r'<table class="runs sides">(.*?)</table>', page, re.DOTALL)
    cells = re.findall(r"<td>(.*?)</td>", table)
    refused, read = "returned -1 EFAULT, nothing leaked", "returned 4096, the whole page leaked"
    for kind in range(3):
        assert cells[4 * kind + 1 : 4 * kind + 4] == [f"{refused} (private)", f"{read} (plain)", f"{read} (shared)"]
    assert cells[::4] == ["user", "kernel", "page cache"]


def test_a_control_that_did_not_run_is_seen_to_be_missing(evidence: Evidence) -> None:
    row = results()[0]
    row = dataclasses.replace(
        row, status=Status.MISS, shared="", runs=tuple(run for run in row.runs if run.state != "shared")
    )
    write_report(evidence, [row])
    page = (evidence.folder / "signoff.html").read_text()
    assert lines_of(page, row.id)[-1] == ("shared", "\N{EN DASH}")
    (table,) = re.findall(r'<table class="runs sides">(.*?)</table>', page, re.DOTALL)
    assert table.count("<td>not run</td>") == 3


def test_a_path_that_must_work_stands_beside_the_plain_guest_and_health_has_no_control(evidence: Evidence) -> None:
    write_report(evidence, results())
    page = (evidence.folder / "signoff.html").read_text()
    assert [label for label, _ in lines_of(page, "guest_kvmclock_advances")] == ["expected", "tested", "plain"]
    assert [label for label, _ in lines_of(page, "guest_does_not_stall")] == ["expected", "observed", "control"]


def test_a_canary_is_in_the_report_only_where_it_leaked(evidence: Evidence) -> None:
    write_report(evidence, results())
    everything = b"".join(path.read_bytes() for path in evidence.folder.rglob("*") if path.is_file())
    for private, leaked in ((0, 10), (1, 11), (2, 12), (0, 20), (1, 21), (2, 22)):
        assert secret(private)[:8].hex().encode() not in everything
        assert secret(leaked)[:8].hex().encode() in everything


def test_junit_is_xml_whatever_the_machine_said(evidence: Evidence) -> None:
    write_report(evidence, results())
    suite = ET.parse(evidence.folder / "junit.xml").find("testsuite")
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == [str(CLAIMS + 1), "2", "2", "1"]
    assert "<script>" in str(suite.find("testcase/failure").get("message"))


def test_claims_not_reached_are_miss(evidence: Evidence) -> None:
    document = write_report(evidence, results()[:1])
    assert (document["verdict"], document["exit_code"], document["counts"]["MISS"]) == ("NOT PROVEN", 2, CLAIMS - 1)


def test_a_killed_run_has_a_report_and_its_torn_line_is_no_result(evidence: Evidence) -> None:
    first, second, *_ = results()
    evidence.write_record(dataclasses.replace(RECORD, ended=""))
    evidence.append(first)
    journal = evidence.folder / "claims.jsonl"
    evidence.append(second)
    journal.write_bytes(journal.read_bytes()[:-20])
    report = assemble(evidence.folder)
    assert [row.result.status for row in report.rows] == [Status.PASS] + [Status.MISS] * (CLAIMS - 1)
    assert report.problems == ("the run was killed before its end",)
    assert report.overall.exit_code == 2


def test_of_two_results_the_worse_one_stays(evidence: Evidence) -> None:
    good = results()[0]
    bad = dataclasses.replace(good, status=Status.FAIL)
    for order in ([good, bad], [bad, good]):
        (evidence.folder / "claims.jsonl").write_bytes(b"")
        assert write_report(evidence, order)["claims"][0]["status"] == "FAIL"


def test_results_and_record_come_back_as_they_went(evidence: Evidence) -> None:
    row = results()[0]
    evidence.append(row)
    result = read(evidence.folder)
    assert result.results == [row]
    assert result.record == RECORD
    assert isinstance(result.results[0], Result)


def test_evidence_stays_in_its_folder(evidence: Evidence) -> None:
    for name in ("../x", "a/b", "", ".hidden", "/etc/x"):
        with pytest.raises(ValueError, match="plain file name"):
            evidence.attach("claim", name, "x")
    assert evidence.attach("claim", "a.txt", "1") == "evidence/claim/a.txt"
    assert evidence.attach("claim", "a.txt", "2") == "evidence/claim/a-2.txt"


def test_latest_is_swapped(evidence: Evidence) -> None:
    reports = evidence.folder.parent
    evidence.publish()
    other = Evidence.create(reports, "20261122T205633Z-a1b2c3", CONTRACT)
    other.publish()
    assert (reports / "latest").resolve() == other.folder
    assert not list(reports.glob(".latest*"))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    for content, why in (
        (None, "record.json: No such file"),
        (b"{", "Record: the whole: Invalid JSON"),
        (b"{}", "run: Field"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserInputError, match="not the folder of a run") as caught:
            read(tmp_path)
        assert why in caught.value.message
        assert "\n" not in caught.value.message


def threat_lines(page: str) -> dict[str, tuple[str, str, str]]:
    """Of each line of the threat model: its words, and what the other cells say."""
    (table,) = re.findall(r'<table class="threats">(.*?)</table>', page, re.DOTALL)
    lines = re.findall(
        r'<tr><th scope="row">(.*?)</th>\s*<td>(.*?)</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td></tr>', table, re.DOTALL
    )
    plain = [[re.sub(r"<[^>]*>", "", cell) for cell in line] for line in lines]
    return {words: (claims, weakest, boundaries) for words, claims, weakest, boundaries in plain}


def test_the_threat_model_names_its_claims_its_weakest_evidence_and_its_boundaries(evidence: Evidence) -> None:
    write_report(evidence, results())
    lines = threat_lines((evidence.folder / "signoff.html").read_text())
    induced = next(cells for words, cells in lines.items() if words.startswith("Host kernel induced"))
    count = sum((claim.kind, claim.threat) == (Kind.ATTACK, Class.KERNEL_GUP) for claim in load(CONTRACT).claims)
    assert f"Attacks: Host kernel, induced, by get_user_pages ({count})" in induced[0]
    userspace = next(cells for words, cells in lines.items() if words.startswith("Host userspace access"))
    assert "✗FAIL" in userspace[1]  # the contract's first claims, of which one fails, are about it
    accidental = next(cells for words, cells in lines.items() if "accidental" in words)
    assert "✓PASS of all claims" in accidental[1]
    assert "No speculative load is tried" in accidental[1]
    assert "A sentence." in accidental[2]  # kernel_reads_registers_of_a_protected_guest is open
    nothing = lines["A guest cannot ask its host whether a page is unmapped"]
    assert (nothing[0], "nothing here tries it" in nothing[1]) == ("none", True)


def test_every_claim_about_the_protection_stands_in_the_threat_model() -> None:
    covered = {threat for line in _THREATS for threat in line.classes}
    assert {claim.threat for claim in load(CONTRACT).claims if claim.kind in PROTECTION} <= covered


def test_a_write_is_what_escalates(evidence: Evidence) -> None:
    report = assemble_report(evidence, results())
    lines = {line.threat.words: line for _, part in threats(report) for line in part}
    names = {row.claim.id for row in lines["Guest privilege escalation via compromised QEMU device emulation"].rows}
    assert {"host_cannot_write_private_page_by_proc_pid_mem", "qemu_cannot_set_its_guests_registers"} <= names
    assert not {name for name in names if "cannot_read_private" in name}


def test_mode_plain_has_no_threat_model(evidence: Evidence) -> None:
    evidence.write_record(dataclasses.replace(RECORD, mode=Mode.PLAIN))
    write_report(evidence, [])
    assert 'class="threats"' not in (evidence.folder / "signoff.html").read_text()


def assemble_report(evidence: Evidence, rows: Sequence[Result]) -> Report:
    for row in rows:
        evidence.append(row)
    return assemble(evidence.folder)
