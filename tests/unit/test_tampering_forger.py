# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts of a forger who has the signer's key and makes all anew with the verifier's own makers (``forger``).

The named ones said PROTECTED once. The others come from a seed: any value of any document, changed in any way; what
survives must be the signer's word, of which there is a list.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from signoff.attestation import sign
from signoff.keys import put_key
from signoff.merge import merge
from signoff.report import write
from signoff.verdict import Status
from tests.unit import fleet_samples, forger
from tests.unit.fleet_samples import FIRST, WELL
from tests.unit.report_samples import KERNEL, KEY, contract_sha256, small_report
from tests.unit.test_tampering import (
    MINE,
    Edit,
    both,
    change_seen,
    change_sweep,
    check,
    digest,
    document,
    html,
    line,
    payload,
    record,
    saying,
    swap,
)
from tests.unit.test_tampering_details import kernel
from tests.unit.test_tampering_fleet import EVERY, check_fleet, fleet, merge_parts
from tests.unit.test_tampering_kinds import ORACLE, SWEEP, ends, events, of_json, write_file
from verifier.report import TrustAnchors, verify
from verifier.sweeps import ranges, read
from verifier.tree import load

READS, WORKS = "host_cannot_read", "guest_works"
PLAIN_SWEEP = f"evidence/{ORACLE}/plain.process_vm_readv.json"
ANEW, SIGNED, DONE = "anew", "signed", "done"
"""How far the forger goes after the edit: all anew, or checksums and signature, or the edit has done what it needs."""
WORD = "passed on SEV-SNP"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = small_report(tmp_path_factory.mktemp("single") / "reports", KEY)
    forger.anew(report)
    return report


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = fleet(tmp_path_factory.mktemp("merged"))
    forger.anew(report)
    return report


def part(folder: Path, number: int, machine: str, statuses: dict[str, Status], **facts: Any) -> Path:
    """A part by the signer's own key."""
    return fleet_samples.part(folder, number, machine, statuses, key=KEY, **facts)


def go_as_far(folder: Path, far: str) -> None:
    if far == ANEW:
        forger.anew(folder)
    elif far == SIGNED:
        forger.resigned(folder)


# --- one report


def statement(change: Callable[[dict[str, Any]], object]) -> Edit:
    return payload(change)


def every_place(change: Callable[[list[str]], list[str]]) -> Edit:
    """Change what shows where each probe of a claim was aimed."""

    def edit(folder: Path) -> None:
        for role in ("subject", "control"):
            for at in range(len((folder / f"evidence/{READS}/{role}.jsonl").read_text().splitlines())):
                change_seen(READS, role, lambda row: row.update(reach=change(row["reach"])), at)(folder)

    return edit


def sweep(**changes: Any) -> Edit:
    """Change a sweep, its picture, and the checks that are of it."""

    def edit(folder: Path) -> None:
        change_sweep(lambda content: content.update(changes), maps=False)(folder)
        result = read(json.loads((folder / SWEEP).read_text()), "it")
        line(ORACLE, lambda row: row["maps"][0].update(spans=result.spans, rate=result.rate))(folder)
        path = folder / f"evidence/{ORACLE}/checks-subject.jsonl"
        checks = [json.loads(text) for text in path.read_text().splitlines()]
        of = {"pages that were tried": result.tried, "pages that can be read": result.read}
        for entry in checks:
            if entry["name"] in of:
                entry["expected"] = entry["got"] = ranges(of[entry["name"]])
        path.write_text("".join(f"{json.dumps(check)}\n" for check in checks))
        fresh = [{**check, "right": True} for check in checks]
        line(ORACLE, lambda row: row.update(checks=forger.mix(row["checks"], "subject", fresh)))(folder)

    return edit


def shares(*runs: list[int]) -> dict[str, Any]:
    """What the guest shares, by all accounts."""
    return {name: list(runs) for name in ("shared", "still_shared", "account", "later_account")}


def unread(**changes: Any) -> Edit:
    """Change a sweep to what is none."""
    return change_sweep(lambda content: content.update(changes), maps=False)


def of_command(command: str) -> Edit:
    def edit(folder: Path) -> None:
        record(command=command)(folder)
        for name in [json.loads(text)["id"] for text in (folder / "claims.jsonl").read_text().splitlines()]:
            line(name, lambda row: row.update(command=row["command"] and f"{command} -k test_{row['id']}"))(folder)

    return edit


def of_runs(change: Callable[[dict[str, Any]], object]) -> Edit:
    return line(READS, lambda row: change(row["runs"][0]))


def twice(folder: Path) -> None:
    of = forger.of_evidence(READS, "subject", "runs")
    content = of.read(folder)
    of.write(folder, [*content, content[0]])


def first_subject(change: Callable[[dict[str, Any]], object]) -> Edit:
    return statement(lambda content: change(content["subject"][0]))


def configured(change: Callable[[list[dict[str, Any]]], object]) -> Edit:
    return statement(lambda content: change(content["predicate"]["configuration"]))


KVM = "KVM of the guest's protection: enabled: 1 private_pages: 4096"
ATTEMPTS: dict[str, tuple[str, Edit, str]] = {
    "reach_without_a_mapping": (
        ANEW,
        every_place(lambda content: [*content[:2], content[3]]),
        "which mapping holds it",
    ),
    "reach_without_a_word_of_kvm": (ANEW, every_place(lambda content: content[:3]), "how KVM protects its guest"),
    "reach_without_both": (ANEW, every_place(lambda content: content[:2]), "it does not say once, of its place"),
    "reach_with_two_words_of_kvm": (ANEW, every_place(lambda content: [*content, KVM]), "how KVM protects its guest"),
    "reach_without_protection": (
        ANEW,
        every_place(lambda content: [*content[:3], "KVM of the guest's protection: enabled: 0 private_pages: 0"]),
        "the host's kernel does not have it as private",
    ),
    "a_sweep_of_read_only_memory": (
        ANEW,
        unread(slots=[[0, 16, 0x7F0000000000, True, False]], found=[[0, 16, None]]),
        "is read-only, and no firmware lies there",
    ),
    "a_sweep_of_pages_that_are_not_there": (
        ANEW,
        sweep(absent=[[0, 12]], found=[[12 * 4096, 4, None]]),
        "no page that is the guest's alone was refused",
    ),
    "a_sweep_of_a_guest_that_shares_all": (
        ANEW,
        sweep(**shares([0, 16]), found=[[0, 16, None]]),
        "no page that is the guest's alone was refused",
    ),
    "a_sweep_of_a_guest_that_shares_most": (
        ANEW,
        sweep(
            **shares([4096, 15]),
            found=[[0, 1, "EFAULT"], [4096, 15, None]],
        ),
        "1 of 16 pages are the guest's alone, which are less than half",
    ),
    "a_sweep_of_memory_that_lies_nowhere": (ANEW, unread(slots=[[0, 16, -4096, False, False]]), "is not a sweep"),
    "a_sweep_of_parts_of_pages": (ANEW, unread(absent=[[1, 1]]), "an address is not a page's"),
    "a_sweep_of_no_memory": (ANEW, unread(slots=[], shared=[], found=[]), "it has no memory slot, or one twice"),
    "a_sweep_of_one_slot_twice": (
        ANEW,
        unread(slots=[[0, 16, 0x7F0000000000, False, False]] * 2),
        "it has no memory slot, or one twice",
    ),
    "a_control_that_read_no_page": (
        ANEW,
        both(
            of_json(PLAIN_SWEEP, lambda content: content.update(absent=[[0, 16]], found=[])),
            line(ORACLE, lambda row: row["maps"][1].update(spans=[[0, 16, "absent"]], rate=0)),
        ),
        "no page was read by process_vm_readv of a guest that nothing protects",
    ),
    "a_size_with_a_point": (
        ANEW,
        line(ORACLE, lambda row: row["maps"][0].update(size=4096.0)),
        "is not what its sweep brought",
    ),
    "a_leak_that_is_false_in_the_line_alone": (ANEW, of_runs(saying(leaked=False)), "differ from evidence/"),
    "a_count_with_a_point_in_the_line_alone": (ANEW, of_runs(saying(got=0.0)), "differ from evidence/"),
    "a_check_that_is_right_by_a_number": (
        ANEW,
        line(WORKS, lambda row: row["checks"][0].update(right=1)),
        "other checks than its evidence",
    ),
    "a_protection_that_is_a_number": (ANEW, line(WORKS, saying(protected=1)), "whether the guest was protected"),
    "a_probe_of_a_guest_said_to_be_protected": (ANEW, line(READS, saying(protected=True)), "has what a check has"),
    "a_probe_with_checks": (
        ANEW,
        line(READS, lambda row: row["checks"].append({"role": "subject", "name": WORD})),
        "has what a check has",
    ),
    "a_probe_told_twice": (ANEW, twice, "subject.jsonl tells one probe twice"),
    "a_canary_in_capitals": (
        ANEW,
        change_seen(READS, "subject", lambda row: row.update(canary_key=row["canary_key"].upper())),
        "an observation is malformed",
    ),
    "a_command_of_words": (ANEW, of_command("certified by all; pytest tests_e2e"), "its command is"),
    "a_patch_without_a_name": (
        ANEW,
        kernel(patches=[{"name": "", "sha256": "ef" * 32}]),
        "a patch has the name ''",
    ),
    "a_patch_of_a_sentence": (
        ANEW,
        kernel(patches=[{"name": "nobody can read it", "sha256": "ef" * 32}]),
        "a patch has the name 'nobody can read it'",
    ),
    "a_duration_of_another_thing": (ANEW, record(durations={"certified": 7.0}), "its durations have certified"),
    "a_duration_without_end": (
        ANEW,
        record(durations={"Avocado job 1": 1e12}),
        "record.json: Avocado job 1 took 1000000000",
    ),
    "json_with_a_field_more_of_the_run": (
        SIGNED,
        document(lambda content: content["run"].update(audit=WORD)),
        "signoff.json: run has audit",
    ),
    "json_with_an_end_that_is_false": (
        SIGNED,
        document(lambda content: content["run"].update(ended=False)),
        "run.ended is not the record's",
    ),
    "a_subject_with_a_note": (DONE, first_subject(saying(annotations={"audit": WORD})), "a subject has annotations"),
    "a_subject_with_another_digest": (
        DONE,
        first_subject(lambda row: row["digest"].update(sha512="00")),
        "a subject's digest has sha512",
    ),
    "a_subject_twice": (DONE, statement(lambda content: content["subject"].append(content["subject"][0])), "once more"),
    "a_subject_that_needs_no_name": (
        DONE,
        lambda folder: statement(
            lambda content: content["subject"].append(
                {"name": "record.json", "digest": {"sha256": digest(folder / "record.json")}}
            )
        )(folder),
        "record.json once more, or it needs no name",
    ),
    "subjects_backwards": (DONE, statement(lambda content: content["subject"].reverse()), "in another order"),
    "a_configuration_with_an_address": (
        DONE,
        configured(lambda content: content[0].update(uri="https://certified.example")),
        "configuration has uri",
    ),
    "a_configuration_with_another_digest": (
        DONE,
        configured(lambda content: content[0]["digest"].update(sha512="00")),
        "a digest of the statement has sha512",
    ),
    "a_configuration_twice": (DONE, configured(lambda content: content.append(content[0])), "names one thing twice"),
    "a_log_that_browsers_look_into": (
        ANEW,
        write_file("logs/result", "<html><script>"),
        "is a file that no report has",
    ),
    "a_picture_among_the_logs": (ANEW, write_file("logs/result.png", "PROTECTED"), "is a file that no report has"),
    "a_page_of_another_kind": (ANEW, write_file("logs/result.mht", "PROTECTED"), "is a file that no report has"),
    "a_program_among_the_logs": (
        ANEW,
        write_file("hosts/host-1/start.desktop", "Exec=true"),
        "is a file that no report has",
    ),
    "an_export_in_bytes_of_no_letter": (
        SIGNED,
        lambda folder: (folder / "signoff.tap").write_bytes((folder / "signoff.tap").read_bytes() + b"\xff"),
        "signoff.tap",
    ),
    "an_event_without_a_field": (
        ANEW,
        events(lambda content: content[1].pop("mapping", None)),
        "planted has no mapping",
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(
    single: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    far, edit, words = ATTEMPTS[name]
    folder = Path(shutil.copytree(single, tmp_path / single.name))
    edit(folder)
    go_as_far(folder, far)
    code, output = check(folder, capsys)
    assert (code, words in output) == (3, True), output


# --- merged reports


def parts_of(folder: Path) -> list[Path]:
    return sorted((folder / "parts").iterdir())


def in_part(edit: Edit, *, form: bool = True) -> Edit:
    """Change a part, and have all that names it name it as it is; ``form``: its own forms stay as they are edited."""

    def change(folder: Path) -> None:
        part_folder = parts_of(folder)[0]
        edit(part_folder)
        forger.resigned(part_folder) if form else forger.anew(part_folder)
        forger.sums_of_parts(folder)
        forger.chain(folder)
        forger.signed(folder)

    return change


def rows(change: Callable[[dict[str, Any]], object], *, checked: bool = False) -> Edit:
    """Change a merged report's own line of a claim that is told by checks, or by probes."""

    def edit(folder: Path) -> None:
        path = folder / "claims.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        change(next(row for row in lines if bool(row["checks"]) is checked))
        path.write_text("".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in lines))

    return edit


def listed(change: Callable[[dict[str, Any]], object]) -> Edit:
    return of_json("fleet.json", change)


def of_whole(field: str, **changes: Any) -> Edit:
    return of_json("record.json", lambda content: content[field].update(changes))


def a_word(content: dict[str, Any]) -> dict[str, Any]:
    word: dict[str, Any] = content["words"][FIRST][0]
    return word


MERGED: dict[str, tuple[str, Edit, str]] = {
    "a_page_of_a_part_with_a_script": (DONE, in_part(html("<body>", "<body><script>x()</script>")), "<script>x()"),
    "a_junit_of_a_part": (DONE, in_part(swap("junit.xml", "observed", "0bserved")), "junit.xml"),
    "a_style_of_a_part": (DONE, in_part(swap("signoff.css", "color", "colour")), "signoff.css is not the style"),
    "a_json_of_a_part": (DONE, in_part(document(saying(verdict="CERTIFIED"))), "signoff.json: verdict is 'CERTIFIED'"),
    "a_tap_of_a_part": (DONE, in_part(ends("signoff.tap", "ok 99 - certified\n")), "signoff.tap has"),
    "a_sarif_of_a_part": (
        DONE,
        in_part(of_json("signoff.sarif", lambda content: content["runs"].pop())),
        "signoff.sarif",
    ),
    "a_kcidb_of_a_part": (DONE, in_part(of_json("kcidb.json", lambda content: content["tests"].pop())), "kcidb.json"),
    "a_part_that_is_merged_itself": (
        DONE,
        in_part(write_file("fleet.json", '{"parts": [], "words": {}}')),
        "is a merged report itself",
    ),
    "a_page_among_the_logs_of_a_part": (
        DONE,
        in_part(write_file("logs/look", "<script>"), form=False),
        "that no report has",
    ),
    "a_part_that_took_ages": (
        ANEW,
        listed(lambda content: content["parts"][0].update(seconds=1e9)),
        "cannot have taken",
    ),
    "a_part_that_took_less_than_nothing": (
        ANEW,
        listed(lambda content: content["parts"][0].update(seconds=-5)),
        "cannot have taken -5 s",
    ),
    "a_field_more_of_the_list": (ANEW, listed(lambda content: content.update(audit=WORD)), "fleet.json has audit"),
    "a_field_more_of_a_part": (ANEW, listed(lambda content: content["parts"][0].update(audit=WORD)), "audit of part"),
    "a_field_more_of_a_word": (ANEW, listed(lambda content: a_word(content).update(audit=WORD)), "it does not say of"),
    "a_word_twice": (
        ANEW,
        listed(lambda content: content["words"][FIRST].append(a_word(content))),
        "it does not say of",
    ),
    "words_in_another_order": (
        ANEW,
        listed(lambda content: content.update(words=dict(reversed(content["words"].items())))),
        "its words are not in the contract's order",
    ),
    "json_with_a_field_more_of_the_parts": (
        SIGNED,
        document(lambda content: content["fleet"].update(audit=WORD)),
        "signoff.json: fleet has audit",
    ),
    "json_with_a_field_more_of_a_part": (
        SIGNED,
        document(lambda content: content["fleet"]["parts"][0].update(audit=WORD)),
        "its parts are not those that are there",
    ),
    "json_with_other_facts_of_a_part": (
        SIGNED,
        document(lambda content: content["fleet"]["parts"][0]["facts"].update(processor="AMD EPYC")),
        "its parts are not those that are there",
    ),
    "json_with_another_machine_of_a_word": (
        SIGNED,
        document(lambda content: a_word(content["fleet"]).update(machine="one with SEV-SNP")),
        "it does not say what its parts say",
    ),
    "json_with_machines_that_differ": (
        SIGNED,
        document(lambda content: content["fleet"]["differing"].append({"fact": "SEV-SNP", "values": []})),
        "differing of its machines",
    ),
    "a_line_that_observed_more": (ANEW, rows(saying(observed=WORD)), "have another value of observed"),
    "a_line_with_another_control": (ANEW, rows(saying(control=WORD)), "have another value of control"),
    "a_line_with_another_shared_page": (ANEW, rows(saying(shared=WORD)), "have another value of shared"),
    "a_line_with_another_reason": (ANEW, rows(saying(why=WORD)), "have another value of why"),
    "a_line_with_another_command": (ANEW, rows(saying(command="true")), "have another value of command"),
    "a_line_of_other_seconds": (ANEW, rows(saying(seconds=0.001)), "have another value of seconds"),
    "a_line_without_evidence": (ANEW, rows(saying(evidence=[])), "have another value of evidence"),
    "a_line_of_another_check": (
        ANEW,
        rows(lambda row: row["checks"][0].update(name=WORD), checked=True),
        "have another value of checks",
    ),
    "a_line_of_another_role": (
        ANEW,
        rows(lambda row: row["checks"][0].update(role="control"), checked=True),
        "have another value of checks",
    ),
    "a_host_of_no_part": (ANEW, of_whole("host", processor="AuthenticAMD, AMD EPYC 9965"), "record.json: its host is"),
    "a_host_that_is_a_real_machine": (
        ANEW,
        of_whole("host", kind="real machine, by SSH and kexec"),
        "record.json: its host is",
    ),
    "a_report_that_is_made_of_nothing": (ANEW, record(made_of={}), "record.json: its made_of is"),
    "a_report_of_another_day": (
        ANEW,
        of_json("record.json", lambda content: content.update(started=an_hour(content["started"]))),
        "record.json: its started is",
    ),
    "a_report_that_ends_later": (
        ANEW,
        of_json("record.json", lambda content: content.update(ended=an_hour(content["ended"]))),
        "record.json: its ended is",
    ),
    "a_report_by_a_machine_of_its_own": (ANEW, record(machine="the vendor's"), "its machine is"),
    "other_plans_than_the_parts": (
        ANEW,
        of_json("planned.json", lambda content: content.update({FIRST: WORD})),
        "planned.json is not what the parts set out to claim",
    ),
    "a_page_that_the_merger_planted": (
        ANEW,
        lambda folder: events(
            lambda content: content.insert(1, {**planted_in(parts_of(folder)[0]), "time": content[0]["time"]})
        )(folder),
        "journal.jsonl of a merged report plants pages",
    ),
    "parts_in_another_order_than_the_journal": (
        ANEW,
        events(
            lambda content: content.__setitem__(slice(1, 3), [{**content[2], "time": content[1]["time"]}, content[1]])
        ),
        "the journal has other parts",
    ),
}


def an_hour(text: str) -> str:
    return (datetime.fromisoformat(text) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def planted_in(folder: Path) -> dict[str, Any]:
    lines = [json.loads(text) for text in (folder / "journal.jsonl").read_text().splitlines()]
    return next(event for event in lines if event["event"] == "planted")


@pytest.mark.parametrize("name", MERGED)
def test_attempt_on_a_merged_report_is_refused_by_name(
    merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    far, edit, words = MERGED[name]
    folder = Path(shutil.copytree(merged, tmp_path / merged.name))
    edit(folder)
    go_as_far(folder, far)
    code, output = check_fleet(folder, capsys)
    assert (code, words in output) == (3, True), output


def test_a_statement_of_a_part_is_held(merged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(merged, tmp_path / merged.name))
    payload(lambda content: content["predicate"].update(verdict="NOT PROTECTED"))(parts_of(folder)[0])
    forger.resigned(folder)
    code, content = check_fleet(folder, capsys)
    assert (code, "the statement's verdict is 'NOT PROTECTED'" in content) == (3, True), content


OTHER_KERNEL = {"build_id": "cd" * 20, "running_build_id": "cd" * 20, "source_sha256": "66" * 32}


def two_kernels(folder: Path) -> Path:
    """A merged report of which one part ran another kernel: it is the one with the attacks."""
    names = list(EVERY)
    first = part(folder / "parts", 1, "one", {names[0]: Status.PASS, **WELL})
    second = part(
        folder / "parts", 2, "two", {**dict.fromkeys(names[1:], Status.PASS), **WELL},
        kernel=replace(KERNEL, **OTHER_KERNEL),
    )  # fmt: skip
    return merge_parts(folder, first, second)


@pytest.mark.parametrize(
    "words",
    [["--build-id", KERNEL.build_id], ["--source", KERNEL.source_sha256], ["--build-id", OTHER_KERNEL["build_id"]]],
)
def test_a_kernel_that_is_trusted_is_that_of_each_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    report = two_kernels(tmp_path)
    assert check_fleet(report, capsys)[0] == 0
    code, output = check_fleet(report, capsys, *words)
    assert (code, f", not {words[1]}" in output) == (3, True), output


def killed_and_whole(folder: Path) -> Path:
    """A merged report of a part that failed before it was killed, and of a whole one."""
    cut = part(folder / "parts", 1, "one", {FIRST: Status.FAIL}, ended="")
    return merge_parts(folder, cut, part(folder / "parts", 2, "two", EVERY))


def test_a_killed_part_has_no_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = killed_and_whole(tmp_path)
    (parts_of(report)[0] / "signoff.html").write_text("<script>x()</script>")
    forger.resigned(report)
    code, output = check_fleet(report, capsys)
    assert (code, "was killed before its end, and has signoff.html" in output) == (3, True), output


def test_the_list_of_a_killed_part_stands_for_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list of sealproof's files that a reader's checkout is held against is the one that the record names."""
    report, checkout = killed_and_whole(tmp_path), tmp_path / "checkout"
    (checkout / "signoff").mkdir(parents=True)
    (checkout / "signoff/verdict.py").write_text("honest")
    path = parts_of(report)[0] / "identity/sealproof.sha256"
    path.write_text(f"{digest(checkout / 'signoff/verdict.py')}  signoff/verdict.py\n")
    forger.resigned(report)
    _, output = check_fleet(report, capsys, "--tree", str(checkout))
    assert "sealproof's files are not those that you trust" in output, output


def name_list(sha256: str) -> Edit:
    """The record names another list of sealproof's files."""
    return of_json("record.json", lambda content: content["made_of"].update({"sealproof's files": sha256}))


def test_another_series_of_the_same_name_must_be_named_in_parts_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a report of one run."""
    report = fleet(tmp_path)
    for part_folder in parts_of(report):
        path = part_folder / "identity/sealproof.sha256"
        path.write_text(f"{path.read_text()}{'0c' * 32}  host_setup/kernel/series/a-series/0001-x.patch\n")
        edit = name_list(digest(path))
        edit(part_folder)
        forger.anew(part_folder)
    edit(report)
    forger.anew(report)
    code, content = check_fleet(report, capsys)
    assert (code, "is not sealproof's of that name" in content) == (2, True), content


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged report that is NOT PROTECTED: a claim failed in one part, and passed in the other."""
    folder = tmp_path_factory.mktemp("failed")
    bad = part(folder / "parts", 1, "one", {FIRST: Status.FAIL, **WELL})
    return merge_parts(folder, bad, part(folder / "parts", 2, "two", EVERY))


def all_pass(content: dict[str, Any]) -> None:
    for test in content["tests"]:
        test.update(status="PASS")


GOOD_LOOKS: dict[str, tuple[Edit, str]] = {
    "junit_that_counts_no_failure": (swap("junit.xml", 'failures="2"', 'failures="0"'), "failures is '0', not '2'"),
    "tap_that_is_ok": (swap("signoff.tap", "not ok", "ok", 9), "signoff.tap: line 3 is 'ok 1"),
    "tap_of_what_is_to_be_done": (swap("signoff.tap", f"- {FIRST}", f"- {FIRST} # TODO known"), "# TODO known"),
    "sarif_without_results": (
        of_json("signoff.sarif", lambda content: content["runs"][0]["results"].clear()),
        "results: 0 where there must be 1",
    ),
    "sarif_of_what_is_known": (
        of_json("signoff.sarif", lambda content: content["runs"][0]["results"][0].update(baselineState="absent")),
        "it has baselineState",
    ),
    "kcidb_that_passes": (of_json("kcidb.json", all_pass), "status is 'PASS', not 'FAIL'"),
    "json_that_exits_with_0": (document(saying(verdict="PROTECTED", exit_code=0)), "verdict is 'PROTECTED'"),
    "a_page_that_says_protected": (html("NOT PROTECTED", "PROTECTED"), "it must be '<title>NOT PROTECTED"),
}


@pytest.mark.parametrize("name", GOOD_LOOKS)
def test_one_form_that_looks_good_is_refused(
    failed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    edit, words = GOOD_LOOKS[name]
    assert check_fleet(failed, capsys)[0] == 1
    folder = Path(shutil.copytree(failed, tmp_path / failed.name))
    edit(folder)
    forger.resigned(folder)
    code, output = check_fleet(folder, capsys)
    assert (code, words in output) == (3, True), output


# --- honest reports that were refused once


def test_a_merged_report_of_parts_that_took_hours_is_protected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is merged long after its first part began; its jobs' times stand in it."""
    parts = [part(tmp_path / "parts", number, f"m{number}", EVERY) for number in range(2)]
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)

    later = SimpleNamespace(now=lambda _: datetime.fromtimestamp(time.time(), UTC))
    monkeypatch.setattr("signoff.record.datetime", later)
    durations = {"Avocado job 1": 7000.5, "Avocado job 2 (claims that were lost)": 12.0}
    command = "python -m fleet run --machine a"
    run = merge(dict.fromkeys(parts, 5000.0), tmp_path / "reports", command=command, durations=durations)
    put_key(run, KEY)
    write(run)
    sign(run, KEY)
    code, output = check_fleet(run, capsys)
    assert code == 0, output


def test_two_machines_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = {"processor": "AuthenticAMD, QEMU", "features": "svm", "devices": "kvm"}
    parts = [
        part(tmp_path / "parts", number, "vm", EVERY, host={**host, "cpu": cpu})
        for number, cpu in enumerate(("max", "max,la57=off"))
    ]
    code, output = check_fleet(merge_parts(tmp_path, *parts), capsys)
    assert code == 0, output


# --- anything else


SIGNERS_WORD = {
    r"record\.json: (commit|series|machine|command)": "names that readers may demand (--commit, --series)",
    r"record\.json: kernel\.(source|vmlinux_sha256|patches)": "readers may demand it (--source, --series)",
    r"record\.json: made_of\.(root file system|payload)": "readers may demand it (--is)",
    r"record\.json: host without": "what is left out is not told",
    r"record\.json: host\.started": "cold or restored",
    r"fleet\.json: parts\.\*\.seconds": "as who gave the order measured it",
    r".*process_vm_readv\.json: (ns|found|slots\.\*\.\*)": "time, order, and which slots are of system management",
    r".*jsonl: \*\.reach backwards": "order alone",
    r".*process_vm_readv\.json: all of it without pages": "it is told twice",
}
"""What a change may survive, and why: no evidence decides it, and it says nothing else."""


@pytest.mark.parametrize("seed", range(6))
def test_what_survives_a_change_is_the_signers_word(single: Path, merged: Path, tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    for report, documents, contract in (
        (single, forger.SINGLE, contract_sha256()),
        (merged, forger.MERGED, contract_sha256(fleet_samples.CONTRACT)),
    ):
        for _ in range(6):
            forged = forger.attempt(report, tmp_path, documents, choice, contract)
            assert not forged.survives or any(re.match(word, forged.name) for word in SIGNERS_WORD), forged.name


def test_the_forger_makes_good_reports(single: Path, merged: Path) -> None:
    """Or nothing that it makes would say anything."""
    for report, contract in ((single, contract_sha256()), (merged, contract_sha256(fleet_samples.CONTRACT))):
        assert verify(load(report), TrustAnchors(keys=(MINE,), contract=contract)).exit_code == 0
