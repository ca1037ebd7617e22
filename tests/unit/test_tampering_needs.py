# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts with the signer's own key on what claims check and expect, refused as the contract names all of it."""

from __future__ import annotations

import ast
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import contract as command
from common.errors import UserInputError
from fleet import groups
from signoff import contract_files, needs, results
from signoff.contract import Mode
from signoff.evidence import read
from signoff.host_facts import Vendor
from signoff.observation import Check
from signoff.trial import Trial
from signoff.verdict import Status
from tests.unit.report_samples import CONTRACT, KEY, Story, contract_sha256, small_report
from tests.unit.test_tampering import MINE, Edit, both, change_seen, drop_role, line, remake_or_seal, saying, swap
from tests.unit.test_tampering_kinds import keep_file, of_json
from verifier import needs as verifiers
from verifier.__main__ import main
from verifier.text import UnsoundError

ORACLE, WORKS, READS = "host_reads_no_other_page", "guest_works", "host_cannot_read"
GUESTS = ("protected", "plain")
Checks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command makes of two runs that say nothing of it yet."""
    folder = tmp_path_factory.mktemp("unnamed")
    first, second = (small_report(folder / name, KEY) for name in ("one", "other"))
    contract = Path(shutil.copytree(first / "contract", folder / "contract"))
    assert command.main([str(first), "--also", str(second), "--contract", str(contract), "--key", MINE]) == 0
    return (contract / needs.FILE).read_text()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, table: str) -> Path:
    return small_report(tmp_path_factory.mktemp("named") / "reports", KEY, evidence=table)


def verify_with(report: Path, table: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([str(report), "--key", MINE, "--contract", contract_sha256(evidence=table)])
    return code, " ".join(capsys.readouterr().out.split())


def change_checks(claim: str, change: Callable[[Checks], object], *roles: str) -> Edit:
    """Change the checks of a claim, in its evidence, in its line and in what the line says of them in words."""

    def edit(folder: Path) -> None:
        fresh: Checks = []
        words = {}
        for role in ("subject", "control"):
            path = folder / f"evidence/{claim}/checks-{role}.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            if role in roles:
                change(rows)
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            fresh += [{**row, "right": row["expected"] == row["got"]} for row in rows]
            words[role] = f"{sum(row['expected'] == row['got'] for row in rows)} of {len(rows)} checks right"
        line(claim, saying(checks=fresh, observed=words["subject"], control=words["control"]))(folder)

    return edit


def everywhere(claim: str, change: Callable[[Checks], object]) -> Edit:
    return change_checks(claim, change, "subject", "control")


def without(name: str) -> Callable[[Checks], object]:
    def change(rows: Checks) -> None:
        rows[:] = [row for row in rows if row["name"] != name]

    return change


def without_sweeps(row: dict[str, Any]) -> None:
    row["evidence"] = [name for name in row["evidence"] if not name.endswith(".json")]
    row["maps"] = []


def no_sweeps(folder: Path) -> None:
    for path in folder.glob(f"evidence/{ORACLE}/*.json"):
        path.unlink()
    line(ORACLE, without_sweeps)(folder)


def sweeps_by(way: str) -> Edit:
    """Have sweeps made in another way, by their names as well."""

    def edit(folder: Path) -> None:
        for guest in GUESTS:
            before = folder / f"evidence/{ORACLE}/{guest}.process_vm_readv.json"
            document = {**json.loads(before.read_text()), "way": way}
            before.with_name(f"{guest}.{way}.json").write_text(json.dumps(document))
            before.unlink()

        def change(row: dict[str, Any]) -> None:
            row["evidence"] = [name.replace("process_vm_readv", way) for name in row["evidence"]]
            for sweep_map in row["maps"]:
                sweep_map["way"] = way

        line(ORACLE, change)(folder)

    return edit


def calling(name: str) -> Edit:
    """Have a probe made by another call, everywhere."""

    def edit(folder: Path) -> None:
        for role, runs in (("subject", 3), ("control", 6)):
            for at in range(runs):
                change_seen(READS, role, saying(call=name), at)(folder)

    return edit


def twice(folder: Path) -> None:
    """A page under test stands there twice."""
    path = folder / f"evidence/{READS}/subject.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    line(READS, lambda row: row["runs"].insert(3, row["runs"][0]))(folder)


def name_anew(before: str, after: str) -> Edit:
    return swap(f"contract/{needs.FILE}", before, after)


ATTEMPTS: dict[str, tuple[Edit, str]] = {
    "a_check_left_out": (
        everywhere(ORACLE, without("pages that can be read")),
        "the subject lacks the check 'pages that can be read'",
    ),
    "a_check_of_the_control_left_out": (
        change_checks(ORACLE, without("pages that can be read"), "control"),
        "the control lacks the check 'pages that can be read'",
    ),
    "a_check_renamed": (
        everywhere(WORKS, lambda rows: rows[0].update(name="product")),
        "has the check 'product', which the contract does not name, and 'sum' is missing",
    ),
    "a_check_with_a_blank_more_in_its_name": (
        everywhere(WORKS, lambda rows: rows[0].update(name="sum ")),
        "has the check 'sum ', which the contract does not name",
    ),
    "a_check_with_a_letter_that_looks_alike": (
        everywhere(WORKS, lambda rows: rows[0].update(name="\N{CYRILLIC SMALL LETTER DZE}um")),
        "which the contract does not name, and 'sum' is missing",
    ),
    "a_check_twice": (
        everywhere(WORKS, lambda rows: rows.append(rows[0])),
        "has the check 'sum' once more than the contract",
    ),
    "a_check_more": (
        everywhere(WORKS, lambda rows: rows.append({**rows[0], "name": "SEV-SNP is on"})),
        "has the check 'SEV-SNP is on', which the contract does not name",
    ),
    "a_weaker_expectation": (
        everywhere(WORKS, lambda rows: rows[0].update(expected="5", got="5")),
        "the subject's check 'sum' expects '5', and not '4'",
    ),
    "a_weaker_expectation_of_the_control": (
        change_checks(WORKS, lambda rows: rows[0].update(expected="0", got="0"), "control"),
        "the control's check 'sum' expects '0', and not '4'",
    ),
    "a_number_written_in_another_way": (
        everywhere(WORKS, lambda rows: rows[0].update(expected="4.0", got="4.0")),
        "the subject's check 'sum' expects '4.0', and not '4'",
    ),
    "a_refusal_that_is_another": (
        change_checks(ORACLE, lambda rows: rows[-1].update(name="refusals other than EPERM"), "subject"),
        "the evidence gives FAIL: private pages met EFAULT",
    ),
    "no_control": (
        both(drop_role(WORKS, "control"), line(WORKS, saying(controlled=False, control=""))),
        "the control lacks the check 'sum'",
    ),
    "a_guest_whose_protection_does_not_matter": (
        line(WORKS, saying(protected=None)),
        "it says of its guest's protection None, and the contract True",
    ),
    "no_sweeps": (no_sweeps, "is not kept"),
    "no_sweeps_and_no_checks_of_them": (
        both(no_sweeps, everywhere(ORACLE, lambda rows: rows.__setitem__(slice(1, None), []))),
        "the subject lacks the check",
    ),
    "a_sweep_by_another_way": (
        both(
            *(of_json(f"evidence/{ORACLE}/{guest}.process_vm_readv.json", saying(way="nothing")) for guest in GUESTS),
            line(ORACLE, lambda row: [sweep_map.update(way="nothing") for sweep_map in row["maps"]]),
        ),
        "protected.process_vm_readv.json is a sweep by nothing",
    ),
    "a_sweep_of_another_name": (
        sweeps_by("nothing"),
        "plain.process_vm_readv.json is not kept with it",
    ),
    "a_file_more": (
        keep_file(WORKS, "certificate.txt", "Proved on SEV-SNP.\n"),
        "certificate.txt is kept with it, which the contract does not name",
    ),
    "a_sentence_that_claims_more": (
        both(
            of_json("planned.json", saying(**{READS: "Nobody can read anything, on any hardware."})),
            line(READS, saying(sentence="Nobody can read anything, on any hardware.")),
        ),
        "it claims 'Nobody can read anything, on any hardware.', and the contract 'Of host_cannot_read.'",
    ),
    "a_sentence_made_of_the_name": (
        line(READS, saying(sentence="Host cannot read.")),
        "it claims 'Host cannot read.', and the contract 'Of host_cannot_read.'",
    ),
    "another_call": (calling("a call that is always refused"), "its call is 'a call that is always refused'"),
    "a_page_tried_twice": (twice, "tells one probe twice"),
    "a_contract_that_names_no_evidence": (
        lambda folder: (folder / "contract" / needs.FILE).unlink(),
        "not the one that you trust",
    ),
    "a_contract_that_names_a_weaker_check": (
        both(
            name_anew('"4" = ["sum"]', '"5" = ["sum"]'),
            everywhere(WORKS, lambda rows: rows[0].update(expected="5", got="5")),
        ),
        "not the one that you trust",
    ),
    "a_contract_that_names_evidence_of_no_claim": (
        name_anew("[[claim.guest_works]]", "[[claim.guest_flies]]\ncall = 'x'\n[[claim.guest_works]]"),
        "names guest_flies, which is not in the contract",
    ),
    "a_contract_that_names_checks_of_a_probe": (
        name_anew(
            "[[claim.guest_works]]", '[[claim.host_cannot_read]]\nsubject = { "1" = ["x"] }\n[[claim.guest_works]]'
        ),
        "a probe has a call, and a claim judged by checks has none",
    ),
    "a_contract_that_names_nothing": (
        name_anew("[[claim.guest_works]]", "[[claim.guest_works]]\n[[claim.guest_works]]"),
        "guest_works must have either a call or checks",
    ),
    "a_contract_of_another_form": (name_anew("version = 1", "version = 2"), "evidence.toml is not of version 1"),
    "a_contract_with_a_field_more": (
        name_anew("[[claim.guest_works]]", "[[claim.guest_works]]\nanything = true"),
        "are malformed",
    ),
    "a_torn_table": (name_anew("version = 1", "version = "), "evidence.toml is not TOML"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, table: str, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, words = ATTEMPTS[name]
    edit(report)
    remake_or_seal(report)
    code, text = verify_with(report, table, capsys)
    assert (code, words in text) == (3, True), text


def test_the_untouched_report_is_protected(report: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = verify_with(report, table, capsys)
    assert code == 0, text
    assert "what the evidence of" not in text
    assert "what 1 claims say, which the contract does not name (qemu_has_no_vfio)" in text


def test_without_the_table_a_reader_is_told_what_stands_on_the_reports_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = verify_with(small_report(tmp_path / "reports", KEY), "", capsys)
    assert code == 0
    assert "what the evidence of 7 claims holds, which the contract does not name (host_cannot_read, " in text


def test_a_run_whose_checks_are_others_proves_nothing(tmp_path: Path, table: str) -> None:
    """The judge holds a run against the table before anybody else does."""
    weaker = table.replace('"4" = ["sum"]', '"4" = ["sum", "product"]')
    report = read(small_report(tmp_path / "reports", None, evidence=weaker))
    (result,) = (each for each in report.results if each.id == WORKS)
    assert (result.status, result.why) == (
        Status.MISS,
        "its evidence is not what the contract says: the subject lacks 'product'",
    )
    assert {each.status for each in report.results if each.id != WORKS} == {Status.PASS, Status.SKIP}


MEETS = f'version = 1\n[[claim.{READS}]]\nsentence = "Of {READS}."\ncall = "a call"\nmet = "faults"\n'
FAULTS = "the host's CPUs took 2 faults at the page"
CAME = "bytes of the page came"


def meeting(subject: str, control: str) -> Callable[[str, str, dict[str, Any]], dict[str, Any]]:
    """Have the probes of a claim say what they met at their pages."""

    def change(claim: str, role: str, facts: dict[str, Any]) -> dict[str, Any]:
        met = {"subject": subject, "control": control}[role] if claim == READS else ""
        return {**facts, "reach": (*facts["reach"], *([met] if met else []))}

    return change


@pytest.mark.parametrize(
    ("subject", "control", "status", "words"),
    [
        (FAULTS, CAME, Status.PASS, ""),
        (FAULTS, FAULTS, Status.PASS, ""),
        ("", "", Status.MISS, "what its probe met at the page is not told, and the contract says faults"),
        ("the dump tells of the mapping",) * 2
        + (Status.MISS, "what its probe met at the page is mapping, and the contract says faults"),
        (CAME, CAME, Status.PASS, f"it says '{CAME}', and no such byte is kept"),
        (FAULTS, "", Status.MISS, "some of its probes say what they met at their pages, and others do not"),
    ],
)
def test_a_probe_says_what_it_met_at_its_page_where_the_contract_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subject: str, control: str, status: Status, words: str
) -> None:
    """Also where the run, by whatever judge, says that it is proven."""
    said = {"evidence": MEETS, "change": meeting(subject, control)}
    judged = read(small_report(tmp_path / "judged", None, **said))
    assert next(result.status for result in judged.results if result.id == READS) is status
    report = small_report(tmp_path / "reports", KEY, evidence=MEETS, change=meeting(FAULTS, CAME))
    for role, runs, before, met in (("subject", 3, FAULTS, subject), ("control", 6, CAME, control)):
        for at in range(runs):
            fresh = [*([met] if met else [])]
            change_seen(READS, role, lambda one, b=before, f=fresh: one.update(  # type: ignore[misc]
                reach=[*(text for text in one["reach"] if text != b), *f]
            ), at)(report)  # fmt: skip
    remake_or_seal(report)
    code, text = verify_with(report, MEETS, capsys)
    assert (code, words in text) == (3 if words else 0, True), text


def test_the_command_puts_down_what_a_probe_met(tmp_path: Path) -> None:
    report = small_report(tmp_path / "reports", KEY, change=meeting(FAULTS, CAME))
    contract = tmp_path / "contract"
    contract.mkdir()
    (contract / "contract.toml").write_text(CONTRACT)
    assert command.main([str(report), "--contract", str(contract), "--key", MINE]) == 0
    assert [need.met for need in contract_files.load(contract).needs[READS]] == ["faults"]


SUM, SENTENCE = (("sum", "4"),), f"Of {WORKS}."
OTHERS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"subject": ()}, "the subject lacks 'sum'"),
    ({"control": ()}, "the control lacks 'sum'"),
    ({"sentence": "It flies."}, "it claims 'It flies.', and the contract 'Of guest_works.'"),
    ({"files": ("x.txt",)}, "x.txt is kept, which the contract does not name"),
    ({"protected": None}, "is told as None, and the contract says True"),
    ({"call": "x"}, "the call is 'x'"),
    ({"subject": (("sum", "5"),)}, "the subject expects '5' of 'sum', and the contract '4'"),
    ({"control": SUM + SUM}, "the control has 'sum' more often than the contract"),
    ({"subject": (("add", "4"),)}, "has 'add', which the contract does not name, and lacks 'sum'"),
)


@pytest.mark.parametrize(("change", "words"), OTHERS)
def test_the_judge_finds_what_the_verifier_finds(table: str, change: dict[str, Any], words: str) -> None:
    """Two programs that share no code read the same table."""
    expected, result = needs.read(table.encode())[WORKS], needs.Need(SENTENCE, protected=True, subject=SUM, control=SUM)
    assert needs.gap(expected, result) == ""
    assert words in needs.gap(expected, replace(result, **change))


def test_the_judge_misses_a_file(table: str) -> None:
    (swept,) = needs.read(table.encode())[ORACLE]
    assert needs.gap([swept], swept) == ""
    assert needs.gap([swept], replace(swept, files=())) == "plain.process_vm_readv.json is not kept"


def test_in_mode_plain_the_table_is_not_held(tmp_path: Path, table: str) -> None:
    report = read(small_report(tmp_path / "reports", None, evidence=table, mode=Mode.PLAIN))
    assert Status.MISS not in {result.status for result in report.results}


# --- the command


def run(folder: Path, *checks: Check, **more: Any) -> Path:
    """A run in which one claim makes checks of its own."""
    story = Story(folder / secrets.token_hex(4), **more)
    for claim in story.contract.claims:
        if claim.id != WORKS:
            story.add(claim)
            continue
        trial = Trial(claim, story.mode, SENTENCE, f"{story.record.command} -k test_{WORKS}", story.evidence)
        trial.legitimate(checks, checks, protected=True)
        story.evidence.append(trial.result())
    return story.end(KEY)


def needs_named(folder: Path, *words: str | Path) -> tuple[needs.Need, ...]:
    """What the contract says of that claim when the command has read the runs."""
    contract = folder / "contract"
    if not contract.exists():
        contract.mkdir()
        (contract / "contract.toml").write_text(CONTRACT)
    assert command.main([*map(str, words), "--contract", str(contract), "--key", MINE]) == 0
    return contract_files.load(contract).needs[WORKS]


def test_what_differs_between_runs_of_one_kind_is_left_open(tmp_path: Path) -> None:
    first = run(tmp_path, Check("a seed 17, of 4029966216", "sum 4, 0x7f6359dff000", "sum 4, 0x7f6359dff000"))
    second = run(tmp_path, Check("a seed 17, of 993355119", "sum 5, 0x7f6359c80000", "sum 5, 0x7f6359c80000"))
    (result,) = needs_named(tmp_path, first)
    assert result.subject == (("a seed 17, of …", "sum 4, …"),)
    (result,) = needs_named(tmp_path, first, "--also", second)
    assert result.subject == result.control == (("a seed 17, of …", "sum …, …"),)


def test_the_number_of_an_error_is_not_left_open(tmp_path: Path) -> None:
    """Or a request that was granted would do."""
    refused, address = "0xffffffffffffffea", "0xffff88800049fe38"
    (result,) = needs_named(tmp_path, run(tmp_path, Check("to share", refused, refused), Check("at", address, address)))
    assert result.subject == (("to share", refused), ("at", "…"))


def test_a_number_of_a_programs_is_not_left_open(tmp_path: Path) -> None:
    """Or 0 would do for what a guest has stored."""
    stored, address = "0x1122334455667788", "0x7f6359dff000"  # guest_images/programs/tiny_vm/walk.c
    (result,) = needs_named(tmp_path, run(tmp_path, Check("stored", stored, stored), Check("at", address, address)))
    assert result.subject == (("stored", stored), ("at", "…"))


def test_whole_sentences_that_differ_are_not_left_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or any sentence would do."""
    report, other = (run(tmp_path, Check("said", text, text)) for text in ("it was refused", "nobody could read it"))
    (result,) = needs_named(tmp_path, report)
    (still,) = needs_named(tmp_path, report, "--also", other)
    assert result == still
    assert "guest_works: other checks than in the first run, which are not put down" in capsys.readouterr().out


def test_other_checks_are_put_down_anew_or_beside_the_first_and_never_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, other = run(tmp_path, Check("sum", "4", "4")), run(tmp_path, Check("product", "4", "4"))
    first, second = needs_named(tmp_path, report), needs_named(tmp_path, report, "--also", other)
    assert first == second
    assert f"{WORKS}: other checks than in the first run" in capsys.readouterr().out
    assert [need.subject[0][0] for need in needs_named(tmp_path, report, "--variant", other)] == ["sum", "product"]
    assert [need.subject[0][0] for need in needs_named(tmp_path, other)] == ["sum", "product"]  # one of them fits
    assert [need.subject[0][0] for need in needs_named(tmp_path, run(tmp_path, Check("pi", "3", "3")))] == ["pi"]
    assert f"\n{WORKS}\n1 claims changed; 1 without a word: qemu_has_no_vfio\n" in f"\n{capsys.readouterr().out}"


def test_a_claim_that_a_run_has_not_proven_stays_as_it_was(tmp_path: Path) -> None:
    before = needs_named(tmp_path, run(tmp_path, Check("sum", "4", "4")))
    failed = small_report(tmp_path / "failed", KEY, statuses={WORKS: Status.FAIL})
    assert needs_named(tmp_path, failed) == before
    with pytest.raises(UserInputError, match="of mode plain"):
        needs_named(tmp_path, small_report(tmp_path / "plain", KEY, mode=Mode.PLAIN))


def test_a_report_of_a_stranger_or_one_that_is_forged_changes_no_contract(tmp_path: Path, table: str) -> None:
    contract = tmp_path / "contract"
    contract.mkdir()
    (contract / "contract.toml").write_text(CONTRACT)
    (contract / needs.FILE).write_text(table)
    report = small_report(tmp_path / "reports", KEY)
    with pytest.raises(UserInputError, match=f"is not sound: it is signed by the key {MINE}, which you did not name"):
        command.main([str(report), "--contract", str(contract), "--key", "00" * 32])
    change_checks(WORKS, lambda kept: kept[0].update(expected="5", got="5"), "subject")(report)
    with pytest.raises(UserInputError, match=r"is not sound: .* was changed after it was signed"):
        command.main([str(report), "--contract", str(contract), "--key", MINE])
    with pytest.raises(UserInputError, match="is not sound"):
        command.main([str(tmp_path), "--contract", str(contract), "--key", MINE])
    assert (contract / needs.FILE).read_text() == table


INTELS = {"processor": "GenuineIntel, Haswell", "features": "vmx", "devices": "kvm"}


def test_what_another_vendors_processor_does_is_put_down_for_that_alone(tmp_path: Path) -> None:
    report = run(tmp_path, Check("code", "vmmcall", "vmmcall"))
    other = run(tmp_path, Check("code", "vmcall", "vmcall"), host=INTELS)
    any_, intels = needs_named(tmp_path, report, "--vendor", other)
    assert [(need.vendor, need.subject) for need in (any_, intels)] == [
        (None, (("code", "vmmcall"),)),
        (Vendor.INTEL, (("code", "vmcall"),)),
    ]
    assert needs_named(tmp_path, other) == (any_, intels)  # as one of them says, for that host
    later = run(tmp_path, Check("code", "vmfunc", "vmfunc"), host=INTELS)
    assert needs_named(tmp_path, report, "--vendor", later)[1].subject == (("code", "vmfunc"),)
    assert needs_named(tmp_path, report)[1].subject == (("code", "vmfunc"),)  # another vendor's run leaves it


def test_a_report_that_names_no_vendor_is_put_down_for_none(tmp_path: Path) -> None:
    report, other = (run(tmp_path, Check("sum", text, text), host=host) for text, host in (("4", INTELS), ("5", {})))
    with pytest.raises(UserInputError, match="names no vendor"):
        needs_named(tmp_path, report, "--vendor", other)


@pytest.mark.parametrize(
    ("vendor", "expected", "fits"),
    [
        (Vendor.INTEL, "4", True),
        (Vendor.INTEL, "5", False),  # what others must have is not enough there
        (Vendor.AMD, "5", True),
        (Vendor.AMD, "4", False),  # nor the other way round
        (None, "5", True),
        (None, "4", False),
    ],
)
def test_each_vendors_host_must_have_what_is_for_it(vendor: Vendor | None, expected: str, *, fits: bool) -> None:
    """Two programs that share no code read the same table."""
    file = b"""version = 1
[[claim.guest_works]]
sentence = "Of guest_works."
protected = true
subject = { 5 = ["sum"] }

[[claim.guest_works]]
sentence = "Of guest_works."
vendor = "intel"
protected = true
subject = { 4 = ["sum"] }
"""
    result = needs.Need(SENTENCE, protected=True, subject=(("sum", expected),))
    assert (needs.gap(needs.at(needs.read(file)[WORKS], vendor), result) == "") is fits
    row: dict[str, Any] = {"sentence": SENTENCE, "protected": True, "evidence": []}
    lines = [("subject", "sum", expected)]
    assert (verifiers.fault(verifiers.load(file)[WORKS], str(vendor or ""), row, [], lines) == "") is fits


def test_a_vendor_that_is_none_is_no_table(table: str) -> None:
    odd = table.replace("sentence =", 'vendor = "via"\nsentence =', 1)
    with pytest.raises(ValueError, match="vendor"):
        needs.read(odd.encode())
    with pytest.raises(UnsoundError, match="malformed"):
        verifiers.load(odd.encode())


def test_the_checks_of_another_vendors_processor_are_miss(tmp_path: Path, table: str) -> None:
    """The run's host is AMD's: it must have what is for all, though its evidence is as Intel's must be."""
    lines = table.partition(f"[[claim.{WORKS}]]\n")[2].partition("\n\n")[0]
    for all_expect, status in (('"4"', Status.PASS), ('"5"', Status.MISS)):
        both_of = lines.replace('"4" =', f"{all_expect} ="), f'vendor = "intel"\n{lines}'
        own = "\n\n".join(f"[[claim.{WORKS}]]\n{variant}" for variant in both_of)
        changed = table.replace(f"[[claim.{WORKS}]]\n{lines}", own)
        report = read(small_report(tmp_path / all_expect.strip('"'), None, evidence=changed))
        assert next(result.status for result in report.results if result.id == WORKS) is status


@pytest.mark.parametrize("name", ["repeat.txt", "timeline.txt", "oops.txt", "checks-subject.jsonl"])
def test_what_explains_a_claim_that_does_not_hold_is_no_need(name: str) -> None:
    """A claim is MISS where the contract does not name its new checks, and from that run they are put down."""
    claim_result = results.Result(
        "a", "A claim.", Status.MISS, "", "", "", "", evidence=(f"evidence/a/{name}", "evidence/a/b")
    )
    assert results.need_of(claim_result).files == ("b",)


SENTENCES = {
    node.name.removeprefix("test_"): (ast.get_docstring(node) or "").partition("\n")[0]
    for file in groups.CONTRACT.parent.rglob("test_*.py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef)
}
"""Of each test below tests_e2e, by the claim's id."""


def test_the_projects_contract_names_the_evidence_of_each_claim_that_can_be_tried_on_any_host() -> None:
    contract = contract_files.load(groups.CONTRACT)
    unnamed = {claim.id for claim in contract.claims} - contract.needs.keys()
    assert unnamed <= {claim.id for claim in contract.claims if claim.skip is not None}
    sentences = {name: {variant.sentence for variant in variants} for name, variants in contract.needs.items()}
    assert sentences == {name: {SENTENCES[name]} for name in sentences}
    text = (groups.CONTRACT / needs.FILE).read_text(encoding="utf-8")
    assert command.contract_text(contract.needs, [claim.id for claim in contract.claims]) == text


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("…", "svm", True),
        ("…", "0x7f0000001000", True),
        ("vhost-…", "vhost-103", True),
        ("11 cases …", "11 cases deadbeef", True),
        ("… pages: …", "9 pages: 0x0-0xfff, 0x2000-0x2fff, and 3 ranges more (sha256 0123abcd4567)", True),
        ("…", "RW GLB NX: 120 kB; ro PSE x: 4 kB", True),
        ("…", "proved by all who know", False),
        ("… pages: …", "9 pages: all that there are", False),
        ("…", "1\n2", False),
        ("…", "1 \u202e 2", False),
        ("…", "1 " * 300, False),
        ("…", "", False),
    ],
)
def test_what_differs_from_run_to_run_is_no_sentence(pattern: str, text: str, *, fits: bool) -> None:
    lines = [("subject", "it", text)]
    expected = verifiers.Variant("", "", None, frozenset(), {"subject": (("it", pattern),), "control": ()}, "")
    row: dict[str, Any] = {"sentence": "", "protected": None, "evidence": []}
    assert (verifiers.fault([expected], "amd", row, [], lines) == "") is fits
    need, result = (needs.Need(subject=(("it", check),)) for check in (pattern, text))
    assert (needs.gap([need], result) == "") is fits


def test_a_claim_that_is_skipped_says_what_the_contract_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, false = "qemu_has_no_vfio", "QEMU was refused every page by VFIO."
    evidence = f'version = 1\n[[claim.{name}]]\nsentence = "Of {name}."\ncall = "a call"\n'
    report = small_report(tmp_path / "reports", KEY, evidence=evidence)
    assert verify_with(report, evidence, capsys)[0] == 0
    planned = json.loads((report / "planned.json").read_text())
    (report / "planned.json").write_text(json.dumps({**planned, name: false}))
    line(name, saying(sentence=false))(report)
    remake_or_seal(report)
    code, output = verify_with(report, evidence, capsys)
    assert (code, f"{name} claims '{false}', and the contract 'Of {name}.'" in output) == (3, True), output
