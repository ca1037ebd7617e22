# SPDX-License-Identifier: GPL-2.0-or-later
"""The exports for other programs: what each says of a claim, by the words that its readers know."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from signoff.contract import Mode
from signoff.contract_files import places
from signoff.evidence import Evidence
from signoff.report import assemble, render
from signoff.report.tap import to_tap
from signoff.verdict import Status
from tests.unit.report_samples import CONTRACT, KERNEL, small_report
from tests.unit.test_tampering import KEY, Edit, check, digest, payload, seal_again, swap

BAD = {"host_cannot_read": Status.FAIL, "host_cannot_write": Status.ERROR, "guest_works": Status.MISS}
PROTECTION = ("host_cannot_read", "host_cannot_write", "host_reads_zeros", "kernel_can_map", "host_reads_no_other_page")
STORIES: dict[str, dict[str, Any]] = {
    "good": {},
    "bad": {"statuses": BAD},
    "plain": {"mode": Mode.PLAIN},
    "a problem": {"problems": ("the disk was full",)},
    "no kernel": {"kernel": None, "host": {}, "tier": None},
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: small_report(folder / name.replace(" ", "-"), KEY, **story) for name, story in STORIES.items()}


def tap(folder: Path) -> dict[str, str]:
    """Of each point: ok, not ok, or skip."""
    results = {}
    for line in (folder / "signoff.tap").read_text().splitlines():
        if line.startswith(("ok ", "not ok ")):
            point, _, directive = line.partition(" # ")
            word, _, name = point.partition(" - ")
            results[name] = "skip" if directive.startswith("SKIP") else word.rpartition(" ")[0]
    return results


def junit(folder: Path) -> dict[str, str]:
    """Of each test: passed, or its element and type."""
    results = {}
    for case in ET.fromstring((folder / "junit.xml").read_bytes()).iter("testcase"):
        child = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        results[str(case.get("name"))] = "passed" if child is None else f"{child.tag} {child.get('type')}"
    return results


def kcidb(folder: Path) -> dict[str, str]:
    return {test["path"]: test["status"] for test in json.loads((folder / "kcidb.json").read_text())["tests"]}


def sarif(folder: Path) -> dict[str, Any]:
    (run,) = json.loads((folder / "signoff.sarif").read_text())["runs"]
    return dict(run)


# --- PASS means PROTECTED, and nothing else ---


@pytest.mark.parametrize(
    ("story", "word", "element", "point", "statement"),
    [
        ("good", "PASS", "passed", "ok", "PASSED"),
        ("bad", "FAIL", "failure FAIL", "not ok", "FAILED"),
        ("plain", "DONE", "skipped CONTROL", "skip", "WARNED"),
        ("a problem", "MISS", "error MISS", "not ok", "FAILED"),
        ("no kernel", "MISS", "error MISS", "not ok", "FAILED"),
    ],
)
def test_the_whole_run_passes_only_where_it_is_protected(
    reports: dict[str, Path], story: str, word: str, element: str, point: str, statement: str
) -> None:
    folder = reports[story]
    node = "sealproof.controls" if story == "plain" else "sealproof.signoff"
    assert kcidb(folder)[node] == word
    assert junit(folder)["the_whole_run"] == element
    assert tap(folder)["the_whole_run"] == point
    envelope = json.loads((folder / "attestation.json").read_text())
    assert json.loads(base64.b64decode(envelope["payload"]))["predicate"]["result"] == statement


@pytest.mark.parametrize("name", PROTECTION)
def test_mode_plain_passes_no_claim_about_protection(reports: dict[str, Path], name: str) -> None:
    folder = reports["plain"]
    assert [word for path, word in kcidb(folder).items() if path.endswith(f".{name}")] == ["DONE"]
    assert not [path for path in kcidb(folder) if path.startswith("sealproof.signoff")]
    assert junit(folder)[name] == "skipped CONTROL"
    assert tap(folder)[name] == "skip"
    (result,) = [result for result in sarif(folder)["results"] if result["ruleId"] == name]
    assert (result["kind"], result["properties"]["status"]) == ("open", "CONTROL")


def test_mode_plain_says_in_sarif_that_it_is_no_signoff(reports: dict[str, Path]) -> None:
    (notification,) = sarif(reports["plain"])["invocations"][0]["toolExecutionNotifications"]
    assert "not a sign-off" in notification["message"]["text"]


# --- four ways not to pass are told apart ---


@pytest.mark.parametrize(
    ("name", "word", "element", "point", "kind"),
    [
        ("host_cannot_read", "FAIL", "failure FAIL", "not ok", ("fail", "error")),
        ("host_cannot_write", "ERROR", "error ERROR", "not ok", ("open", "none")),
        ("guest_works", "MISS", "error MISS", "not ok", ("open", "none")),
        ("qemu_has_no_vfio", "SKIP", "skipped SKIP", "skip", ("notApplicable", "none")),
        ("host_kernel_stays_healthy", "PASS", "passed", "ok", None),
    ],
)
def test_ends_are_told_apart(
    reports: dict[str, Path], name: str, word: str, element: str, point: str, kind: tuple[str, str] | None
) -> None:
    folder = reports["bad"]
    assert [status for path, status in kcidb(folder).items() if path.endswith(f".{name}")] == [word]
    assert junit(folder)[name] == element
    assert tap(folder)[name] == point
    results = {result["ruleId"]: (result["kind"], result["level"]) for result in sarif(folder)["results"]}
    assert results.get(name) == kind
    if point == "not ok":
        assert f'  status: "{word}"' in (folder / "signoff.tap").read_text()


# --- each by the rules of its format ---


@pytest.mark.parametrize("story", STORIES)
def test_kcidbs_own_library_takes_it(reports: dict[str, Path], story: str) -> None:
    schema = pytest.importorskip("kcidb_io.schema", reason="kcidb-io is not installed: it is of the group dev").LATEST
    document = json.loads((reports[story] / "kcidb.json").read_text())
    assert schema.is_compatible(document)
    schema.validate(document)


def test_kcidb_names_the_kernel_as_it_wants_it(reports: dict[str, Path]) -> None:
    document = json.loads((reports["good"] / "kcidb.json").read_text())
    (checkout,), (build,) = document["checkouts"], document["builds"]
    # What sha256sum says of the one line "efef...": KCIDB takes hashes alone, and no names.
    assert checkout["patchset_hash"] == "d317508c742af5758eec569da0dfb4083feabc5fbf2e097abcc15300ee5a04c6"
    assert (build["compiler"], build["misc"]["image_sha256"]) == (KERNEL.compiler, KERNEL.image_sha256)
    assert build["checkout_id"] == checkout["id"]
    assert {test["build_id"] for test in document["tests"]} == {build["id"]}


def test_a_sarif_result_carries_its_rule_and_lies_at_its_line_of_the_contract(reports: dict[str, Path]) -> None:
    run = sarif(reports["bad"])
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    text = CONTRACT.splitlines()
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert text[place["region"]["startLine"] - 1] == f'id = "{result["ruleId"]}"'
        assert place["artifactLocation"]["uri"] == "tests_e2e/contract/contract.toml"
        assert place["artifactLocation"]["uriBaseId"] in run["originalUriBaseIds"]
    assert run["invocations"][0]["exitCode"] == 1


def test_sarif_takes_no_tag_twice(reports: dict[str, Path]) -> None:
    for rule in sarif(reports["good"])["tool"]["driver"]["rules"]:
        tags = rule["properties"]["tags"]
        assert len(tags) == len(set(tags))


def test_the_line_of_a_claim_is_found_however_it_is_written() -> None:
    listing = {"a.toml": b"[[claim]]\nid = 'one'\n[[claim]]\n  id=\"two\"\n", "b.toml": b'ids = ["three",\n"four"]\n'}
    assert places(listing) == {
        "one": ("a.toml", 2),
        "two": ("a.toml", 4),
        "three": ("b.toml", 1),
        "four": ("b.toml", 2),
    }


def test_tap_is_a_plan_and_as_many_points(reports: dict[str, Path]) -> None:
    lines = (reports["bad"] / "signoff.tap").read_text().splitlines()
    assert lines[:2] == ["TAP version 14", "1..9"]
    numbers = [line.split()[-3] for line in lines if line.startswith(("ok ", "not ok ")) and "#" not in line]
    assert all(number.isdigit() for number in numbers)
    assert len(tap(reports["bad"])) == 9


def test_words_of_a_machine_begin_no_directive_and_no_line(reports: dict[str, Path]) -> None:
    report = assemble(reports["bad"])
    evil = "x # TODO y\nok 2 - all is well\n\x1b[2J"
    row = dataclasses.replace(
        report.rows[3], result=dataclasses.replace(report.rows[3].result, why=evil, expected=evil)
    )
    rows = [*report.rows[:3], row, *report.rows[4:]]
    text = to_tap(dataclasses.replace(report, rows=rows))
    assert "ok 4 - qemu_has_no_vfio # SKIP x \\# TODO y ok 2 - all is well" in text
    assert text.count("\nok 2 ") == 0
    assert "\x1b" not in text


def test_junit_counts_what_it_holds(reports: dict[str, Path]) -> None:
    for folder in reports.values():
        suite = ET.fromstring((folder / "junit.xml").read_bytes()).find("testsuite")
        assert suite is not None
        ends = list(junit(folder).values())
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(str(suite.get(count))) == sum(end.startswith(tag) for end in ends)
        assert int(str(suite.get("tests"))) == len(ends)


def test_junit_has_only_what_the_schema_of_jenkins_takes(reports: dict[str, Path]) -> None:
    """As junit-10.xsd of its plugin xunit has it; the schema itself was tried by hand."""
    allowed = {
        "testsuites": {"name", "time", "tests", "failures", "errors"},
        "testsuite": {"name", "tests", "failures", "errors", "time", "skipped", "timestamp", "hostname", "id"},
        "properties": set(),
        "property": {"name", "value"},
        "testcase": {"name", "time", "classname"},
        **{name: {"type", "message"} for name in ("failure", "error", "skipped")},
        "system-out": set(),
    }
    for folder in reports.values():
        for element in ET.fromstring((folder / "junit.xml").read_bytes()).iter():
            assert set(element.attrib) <= allowed[element.tag]
            if "time" in element.attrib:
                seconds, _, fraction = element.attrib["time"].partition(".")
                assert seconds.isdigit()
                assert fraction.isdigit()


# --- and nobody edits one ---


def without(name: str) -> Edit:
    """Remove a file."""
    return lambda folder: (folder / name).unlink()


def tear(name: str) -> Edit:
    """Leave the beginning of a document."""
    return lambda folder: (folder / name).write_text("{")


ATTEMPTS: dict[str, tuple[Edit, str]] = {
    "tap_of_another_status": (
        swap(
            "signoff.tap",
            "ok 4 - qemu_has_no_vfio # SKIP the host has no VFIO (/dev/vfio/vfio)",
            "ok 4 - qemu_has_no_vfio",
        ),
        "line 24 is 'ok 4 - qemu_has_no_vfio', and it must be 'ok 4 - qemu_has_no_vfio # SKIP",
    ),
    "tap_with_a_todo": (
        swap("signoff.tap", "ok 1 - host_cannot_read", "ok 1 - host_cannot_read # TODO"),
        "line 3 is 'ok 1 - host_cannot_read # TODO', and it must be 'ok 1 - host_cannot_read'",
    ),
    "tap_of_another_plan": (swap("signoff.tap", "1..9", "1..8"), "line 2 is '1..8', and it must be '1..9'"),
    "tap_with_a_point_less": (swap("signoff.tap", "ok 9 - the_whole_run\n", ""), "has 58 lines, and it must have 59"),
    "tap_that_bails_out": (swap("signoff.tap", "1..9\n", "1..9\nBail out!\n"), "line 3 is 'Bail out!'"),
    "sarif_with_a_failure": (swap("signoff.sarif", '"kind": "notApplicable"', '"kind": "fail"'), "kind is 'fail', not"),
    "sarif_of_another_rule": (
        swap("signoff.sarif", '"id": "guest_works"', '"id": "guest"'),
        "id is 'guest', not 'guest_works'",
    ),
    "sarif_of_another_verdict": (
        swap("signoff.sarif", '"exitCodeDescription": "PROTECTED"', '"exitCodeDescription": "GOOD"'),
        "exitCodeDescription is 'GOOD', not 'PROTECTED'",
    ),
    "sarif_of_another_mode": (swap("signoff.sarif", '"mode": "protected"', '"mode": "plain"'), "mode is 'plain', not"),
    "kcidb_of_another_status": (
        swap("kcidb.json", '"status": "SKIP"', '"status": "PASS"'),
        "status is 'PASS', not 'SKIP'",
    ),
    "kcidb_of_another_path": (
        swap("kcidb.json", "legitimate.devices", "attack.devices"),
        "attack.devices.guest_works', not",
    ),
    "kcidb_of_another_kernel": (
        swap("kcidb.json", f'"image_sha256": "{KERNEL.image_sha256}"', f'"image_sha256": "{"99" * 32}"'),
        "image_sha256 is '9999",
    ),
    "kcidb_of_another_verdict": (swap("kcidb.json", '"verdict": "PROTECTED"', '"verdict": "x"'), "verdict is 'x', not"),
    "kcidb_of_two_builds": (
        swap("kcidb.json", f'"build_id": "sealproof:{KERNEL.build_id}"', '"build_id": "sealproof:x"'),
        "build_id is 'sealproof:x', not",
    ),
    "junit_without_the_whole": (
        swap("junit.xml", 'name="the_whole_run"', 'name="whole"'),
        "name is 'whole', not 'the_whole_run'",
    ),
    **{
        f"no_{name}": (without(name), f"the statement does not name {name}")
        for name in ("signoff.tap", "signoff.sarif", "kcidb.json")
    },
    **{f"torn_{name}": (tear(name), name) for name in ("signoff.sarif", "kcidb.json")},
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_edited_export_is_refused_by_name(
    reports: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    report = Path(shutil.copytree(reports["good"], tmp_path / reports["good"].name))
    edit, words = ATTEMPTS[name]
    edit(report)
    if name.startswith("no_"):
        remove_from_statement(report)
    else:
        seal_again(report)
    code, text = check(report, capsys)
    assert (code, words in text) == (3, True), text


def remove_from_statement(folder: Path) -> None:
    """What a forger does who takes a file away: nobody names it any more."""
    Evidence(folder).seal()

    def change(statement: dict[str, Any]) -> None:
        statement["subject"] = [subject_ for subject_ in statement["subject"] if (folder / subject_["name"]).exists()]
        for subject_ in statement["subject"]:
            subject_["digest"]["sha256"] = digest(folder / subject_["name"])

    payload(change)(folder)


def test_exports_made_anew_are_the_same(reports: dict[str, Path]) -> None:
    for folder in reports.values():
        for name, content in render(assemble(folder), folder).items():
            assert (folder / name).read_bytes() == content
