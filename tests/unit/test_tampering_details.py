# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts on details that readers take for granted, as in ``test_tampering``; most of them said PROTECTED once.

Values that only compare as equal, fields and words beside those that are held against something, pages that stand in
for others, times that cannot be, archives whose two lists differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_tampering import (
    RAW,
    REMADE,
    SEALED,
    Edit,
    both,
    carry_out,
    change_seen,
    check,
    document,
    html,
    line,
    record,
    remake_or_seal,
    saying,
    swap,
)
from tests.unit.test_tampering_identity import kernel
from tests.unit.test_tampering_kinds import HEALTH, ORACLE, SWEEP, events, keep_file, of_json, write_file

READS, WRITES, WORKS = "host_cannot_read", "host_cannot_write", "guest_works"


def subject(claim: str = READS, **changes: Any) -> Edit:
    return change_seen(claim, "subject", saying(**changes))


def aim(role: str = "subject", **changes: Any) -> Edit:
    """Change where a probe is aimed at, in the journal as well, and in what is said of its place."""

    def edit(folder: Path) -> None:
        def change(row: dict[str, Any]) -> None:
            commitment = row["aim"]["commitment"]
            for before, after in [(row["aim"][key], value) for key, value in changes.items() if isinstance(value, str)]:
                row["reach"] = [text.replace(before, after) for text in row["reach"]]
            row["aim"].update(changes)
            names = {key: value for key, value in changes.items() if key != "planted"}
            events(lambda rows: [e.update(names) for e in rows if e.get("commitment") == commitment])(folder)

        change_seen(READS, role, change)(folder)

    return edit


def one_frame(folder: Path) -> None:
    """A page comes into another one's frame before the probe of the other is over."""
    pages = [json.loads(line) for line in (folder / f"evidence/{READS}/subject.jsonl").read_text().splitlines()]
    change_seen(READS, "subject", saying(seen=pages[1]["aim"]["planted"]))(folder)
    aim(hpa=pages[1]["aim"]["hpa"])(folder)


def leave_frame(folder: Path) -> None:
    """A page comes into the frame that another one has left: its probe was over by then, as it may be."""
    first, second = (json.loads((folder / f"evidence/{READS}/{role}.jsonl").read_text().splitlines()[0])
                     for role in ("subject", "control"))  # fmt: skip
    over = (first["aim"]["planted"] + second["aim"]["planted"]) / 2
    change_seen(READS, "subject", saying(seen=over))(folder)
    aim("control", hpa=first["aim"]["hpa"])(folder)


def page_of_another_claim(folder: Path) -> None:
    """A claim's probes are another claim's, copied: one try counts for two."""
    fresh = []
    for role, came in (("subject", {}), ("control", {"data": "", "got": 0, "leaked": 0, "head": ""})):
        after = "intact" if role == "subject" else "overwritten"
        text = (folder / f"evidence/{READS}/{role}.jsonl").read_text()
        copies = [{**json.loads(line), **came, "page_after": after} for line in text.splitlines()]
        (folder / f"evidence/{WRITES}/{role}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in copies))
        fresh += [{k: v for k, v in row.items() if k not in ("data", "cuts", "canary_key")} for row in copies]
    line(WRITES, saying(runs=fresh))(folder)
    events(lambda rows: rows.__setitem__(slice(None), [each for event in rows for each in plant_twice(event)]))(folder)


def plant_twice(event: dict[str, Any]) -> list[dict[str, Any]]:
    copied = event["event"] == "planted" and event["claim"] == READS
    return [event, {**event, "claim": WRITES}] if copied else [event]


def later(folder: Path) -> None:
    """The whole run, many years later."""
    seconds = 50 * 366 * 86400

    def moment(text: str) -> str:
        return (datetime.fromisoformat(text) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def postpone(row: dict[str, Any]) -> None:
        row["seen"] += seconds
        row["aim"]["planted"] += seconds

    content = json.loads((folder / "record.json").read_text())
    record(started=moment(content["started"]), ended=moment(content["ended"]))(folder)
    events(lambda every: [event.update(time=event["time"] + seconds) for event in every])(folder)
    for claim in (READS, WRITES, "host_reads_zeros", "kernel_can_map"):
        for role in ("subject", "control"):
            for at in range(len((folder / f"evidence/{claim}/{role}.jsonl").read_text().splitlines())):
                change_seen(claim, role, postpone, at)(folder)


def pem(text: str) -> Edit:
    """Text before the signer's public key, which readers of PEM skip."""
    return lambda folder: (folder / "signing-key.pub").write_text(text + (folder / "signing-key.pub").read_text())


def envelope(change: Callable[[dict[str, Any]], object]) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "attestation.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


def odd_base64(content: dict[str, Any]) -> None:
    """The same bytes, by bits of the last digit that mean nothing."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = content["signatures"][0]["sig"]
    at = len(text.rstrip("=")) - 1
    content["signatures"][0]["sig"] = f"{text[:at]}{digits[digits.index(text[at]) + 1]}{text[at + 1 :]}"


ATTEMPTS: dict[str, tuple[str, Edit, str]] = {
    # values that only compare as equal, and numbers that are none
    "an_exit_code_that_is_false": (SEALED, document(saying(exit_code=False)), "exit_code is 'False'"),
    "a_count_with_a_point": (SEALED, document(lambda d: d["counts"].update(PASS=7.0)), "counts is"),
    "a_leak_that_is_false": (REMADE, subject(leaked=False), "has the wrong type"),
    "a_return_with_a_point": (
        REMADE,
        both(
            *(change_seen(READS, "subject", saying(returned=-1.0), at) for at in range(3)),
            line(READS, saying(observed="returned -1.0 EFAULT, nothing leaked")),
        ),
        "has the wrong type",
    ),
    "a_return_that_is_true": (
        REMADE,
        both(
            *(change_seen("kernel_can_map", "subject", saying(returned=False), at) for at in range(3)),
            line("kernel_can_map", saying(observed="returned False, the whole page leaked")),
        ),
        "has the wrong type",
    ),
    "an_errno_that_is_a_list": (REMADE, subject(errno=["EFAULT"]), "has the wrong type"),
    "a_time_as_text": (
        REMADE,
        change_seen(READS, "subject", lambda row: row.update(seen=str(row["seen"]))),
        "has the wrong type",
    ),
    "a_number_too_large_to_be_one": (
        SEALED,
        swap("signoff.json", '"seconds": 1.5', '"seconds": 1e999'),
        "signoff.json is not valid JSON",
    ),
    "a_line_of_endless_seconds": (
        REMADE,
        both(line(READS, lambda row: row), swap("claims.jsonl", '"seconds":1.5', '"seconds":1e999')),
        "is not valid JSON",
    ),
    "a_line_of_negative_seconds": (REMADE, line(READS, saying(seconds=-7.5)), "it took -7.5 s"),
    "a_line_of_more_seconds_than_the_run": (REMADE, line(READS, saying(seconds=99999.0)), "it took 99999.0 s"),
    "a_line_of_seconds_that_are_true": (REMADE, line(READS, saying(seconds=True)), "it took True s"),
    "a_number_of_5000_digits": (
        SEALED,
        swap("kcidb.json", '"major": 5', f'"major": {"5" * 5000}'),
        "kcidb.json is not valid JSON",
    ),
    "an_export_with_a_point": (SEALED, swap("kcidb.json", '"major": 5', '"major": 5.0'), "major is 5.0, not 5"),
    "a_name_twice_by_an_escape": (
        SEALED,
        swap("signoff.json", '"verdict":', '"verd\\u0069ct": "PROTECTED", "verdict":'),
        "an object has a name twice",
    ),
    "half_a_character": (SEALED, document(saying(verdict="PROTECTED\ud800")), "is not valid JSON"),
    "an_address_written_in_another_way": (REMADE, aim(gpa="0X1_000"), "is not written like an address"),
    "an_address_with_a_sign": (REMADE, aim(hpa="+0x40001000"), "is not written like an address"),
    "an_address_that_is_part_of_another": (
        REMADE,
        change_seen(
            READS, "subject", lambda row: row.update(reach=[f"{row['aim'][name]}000" for name in ("gpa", "hva")])
        ),
        "names other addresses",
    ),
    # fields beside those that are held against something
    "a_field_more_in_a_line": (REMADE, line(READS, saying(hardware="SEV-SNP")), "has hardware, which"),
    "a_field_more_in_an_observation": (REMADE, subject(hardware="SEV-SNP"), "has hardware, which"),
    "a_field_more_in_an_aim": (
        REMADE,
        change_seen(READS, "subject", lambda o: o["aim"].update(hardware="x")),
        "has hardware, which",
    ),
    "a_field_more_in_a_check": (
        REMADE,
        both(
            swap(f"evidence/{WORKS}/checks-subject.jsonl", '"role"', '"hardware": "SEV-SNP", "role"'),
            line(WORKS, lambda row: row["checks"][0].update(hardware="SEV-SNP")),
        ),
        "has hardware, which",
    ),
    "a_field_more_in_a_checks_line": (
        REMADE,
        line(WORKS, lambda row: row["checks"][0].update(hardware="SEV-SNP")),
        "has hardware, which",
    ),
    "a_field_more_in_an_event": (
        REMADE,
        events(lambda rows: rows[0].update(hardware="SEV-SNP")),
        "has hardware, which",
    ),
    "a_field_more_in_the_kernel": (REMADE, kernel(hardware="SEV-SNP"), "has hardware, which"),
    "a_field_more_in_a_map": (REMADE, line(ORACLE, lambda row: row["maps"][0].update(note="x")), "has note, which"),
    "a_field_more_in_a_sweep": (REMADE, of_json(SWEEP, saying(note="x")), "has note, which"),
    "a_run_of_no_role": (
        REMADE,
        line(READS, lambda row: row["runs"].append({**row["runs"][0], "role": "on hardware"})),
        "belongs neither to the subject nor to the control",
    ),
    "a_run_that_is_a_text": (
        REMADE,
        line(READS, lambda row: row["runs"].append("PASS on hardware")),
        "neither to the subject",
    ),
    "durations_that_are_words": (REMADE, record(durations={"on SEV-SNP": "fast"}), "its durations are malformed"),
    "a_plan_for_a_claim_that_is_none": (
        REMADE,
        of_json("planned.json", saying(host_runs_on_hardware="The host runs on SEV-SNP.")),
        "planned.json names host_runs_on_hardware, which is not in the contract",
    ),
    "a_list_more_of_what_it_is_made": (
        REMADE,
        write_file("identity/hardware.sha256", "x"),
        "identity/hardware.sha256 is a file that no",
    ),
    "a_condition_of_a_skip_that_is_another": (
        REMADE,
        line("qemu_has_no_vfio", saying(skip="real-machine")),
        "of no SKIP",
    ),
    "a_condition_of_a_pass": (REMADE, line(READS, saying(skip="no-vfio")), "it is PASS and names a condition for SKIP"),
    "words_before_the_key": (SEALED, pem("The key of kernel.org\n"), "signing-key.pub is not written as"),
    "an_envelope_spread_out": (RAW, envelope(lambda _: None), "attestation.json is not written as"),
    "a_signature_by_other_digits": (RAW, envelope(odd_base64), "attestation.json is not written as"),
    "a_log_of_a_guest_of_another_kernel": (
        REMADE,
        keep_file(HEALTH, "guest-protected-dmesg.log", "[    0.000000] Linux version 5.4.0 (x@y) (gcc 9, ld) #1\n"),
        "dmesg.log is of Linux 5.4.0 by gcc 9, ld, not the record's",
    ),
    "a_log_of_a_guest_without_its_begin": (
        REMADE,
        keep_file(HEALTH, "guest-plain-dmesg.log", "[  300.1] all is well\n"),
        "dmesg.log does not begin with the kernel's boot",
    ),
    # one thing for two
    "a_try_that_counts_for_two_claims": (REMADE, page_of_another_claim, "is the page of two claims"),
    "two_pages_in_one_frame": (REMADE, one_frame, "one frame of the host holds two pages"),
    # times and sweeps
    "a_run_of_the_future": (REMADE, later, "which has not come yet"),
    "a_sweep_of_no_bytes": (
        REMADE,
        both(of_json(SWEEP, saying(bytes=0)), line(ORACLE, lambda row: row["maps"][0].update(size=0))),
        "0 bytes of each page",
    ),
    # words on the page
    "page_with_text_that_runs_backwards": (
        SEALED,
        html("<main>", "<main><p>\u202eDETCETORP</p>"),
        "is '<main><p>\ufffdDETCETORP</p>'",
    ),
    "page_with_text_of_no_width": (SEALED, html("PROTECTED", "PRO\u200bTECTED"), "is '<title>PRO\ufffdTECTED"),
    "page_with_a_second_title": (SEALED, html("</title>", "</title><title>Proved on SEV-SNP</title>"), "title"),
    "page_that_goes_elsewhere": (
        SEALED,
        html("<head>", '<head><meta http-equiv="refresh" content="0;url=https://x/">'),
        "is '<head><meta http-equiv=",
    ),
    "page_with_another_base": (SEALED, html("<head>", '<head><base href="https://x/">'), "is '<head><base href="),
    "page_with_a_frame": (SEALED, html("<main>", '<main><iframe src="x.txt"></iframe>'), "is '<main><iframe src="),
    "page_that_proves_more": (
        SEALED,
        html("No speculative load is tried: the", "Each speculative load is refused: the"),
        '<div class="soft">Each speculative load',
    ),
    "page_that_leaves_out_what_was_not_shown": (
        SEALED,
        html("<dt>It does not show</dt><dd>speculative execution", "<dt>It shows</dt><dd>speculative execution"),
        "<dt>It shows</dt>",
    ),
    "page_of_another_meaning": (SEALED, html("Never counts as PASS.", "Counts as PASS."), "Counts as PASS."),
    "page_of_another_advice": (
        SEALED,
        html("use the fingerprint that you have from the signer, not", "use the fingerprint of the signer,"),
        "use the fingerprint of the signer,",
    ),
    "page_with_a_form": (
        SEALED,
        html("<main>", '<main><form action="x"><button>verify</button></form>'),
        "is '<main><form action=",
    ),
    "page_with_a_hidden_part": (
        SEALED,
        html('class="claim SKIP"', 'class="claim SKIP" hidden'),
        'is \'<details class="claim SKIP" hidden',
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    far, edit, words = ATTEMPTS[name]
    carry_out(report, edit, far)
    code, text = check(report, capsys)
    assert (code, words in text) == (3, True), text


def test_a_frame_may_hold_another_page_later(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_frame(report)
    remake_or_seal(report)
    code, text = check(report, capsys)
    assert code == 0, text
