# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts of further kinds, as in ``test_tampering``; each of them said PROTECTED once.

Sweeps that no picture is of, logs of other kernels, canaries in other forms, further fields and files, exports and
statements that say more than the run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from host_setup.hosts.canaries import canary_of
from tests.unit.test_tampering import (
    RAW,
    REMADE,
    SEALED,
    Edit,
    both,
    carry_out,
    change_seen,
    check,
    digest,
    document,
    get_bytes,
    html,
    line,
    payload,
    record,
    remake_or_seal,
    saying,
    swap,
)
from tests.unit.test_tampering_identity import change_list, kernel

ORACLE = "host_reads_no_other_page"
HEALTH = "host_kernel_stays_healthy"
LOG = f"evidence/{HEALTH}/console.log"
SWEEP = f"evidence/{ORACLE}/protected.process_vm_readv.json"
OTHER = "00" * 32


def write_file(name: str, text: str) -> Edit:
    """Lay a file into the report."""

    def edit(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return edit


def ends(name: str, text: str) -> Edit:
    """Let a file end with a text."""
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def keep_file(claim: str, name: str, text: str) -> Edit:
    """Keep a file more with a claim."""
    path = f"evidence/{claim}/{name}"
    return both(write_file(path, text), line(claim, lambda row: row["evidence"].append(path)))


def of_json(name: str, change: Callable[[dict[str, Any]], object]) -> Edit:
    """Change a JSON document."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def events(change: Callable[[list[dict[str, Any]]], object]) -> Edit:
    """Change the journal's events."""

    def edit(folder: Path) -> None:
        path = folder / "journal.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        change(lines)
        path.write_text("".join(f"{json.dumps(event)}\n" for event in lines))

    return edit


def leak_as(form: Callable[[bytes], bytes]) -> Edit:
    return change_seen("host_cannot_read", "subject", get_bytes(form))


def predicate(change: Callable[[dict[str, Any]], object]) -> Edit:
    return payload(lambda statement: change(statement["predicate"]))


def take_away_maps(row: dict[str, Any]) -> None:
    row["maps"] = []


def one_sweep_alone(folder: Path) -> None:
    def change(row: dict[str, Any]) -> None:
        row["evidence"].remove(SWEEP)
        row["maps"].pop(0)

    line(ORACLE, change)(folder)
    (folder / SWEEP).unlink()


def another_release(folder: Path) -> None:
    swap("identity/kernel.config", "6.12.117", "6.12.118")(folder)
    kernel(release="6.12.118", config_sha256=digest(folder / "identity/kernel.config"))(folder)


def page_of_another_claim(folder: Path) -> None:
    first = (folder / "evidence/host_cannot_write/subject.jsonl").read_text().splitlines()[0]
    page = canary_of(bytes.fromhex(json.loads(first)["canary_key"]))
    change_seen("host_cannot_read", "subject", lambda row: row.update(data=page.hex(), got=len(page)))(folder)


def rotate(page: bytes, bits: int) -> bytes:
    return bytes((byte << bits | byte >> 8 - bits) & 255 for byte in page)


def words(page: bytes, size: int) -> Iterable[bytes]:
    return (page[at : at + size] for at in range(0, len(page), size))


def of_host(**facts: str) -> Edit:
    return of_json("record.json", lambda content: content["host"].update(facts))


ATTEMPTS: dict[str, tuple[str, Edit, str]] = {
    # sweeps, and other looks at memory
    "a_sweep_that_leaked_without_its_picture": (
        REMADE,
        both(
            of_json(SWEEP, lambda content: content.update(found=[[0, 11, "EFAULT"], [11 * 4096, 5, None]])),
            line(ORACLE, take_away_maps),
        ),
        "1 pages that are the guest's alone were read",
    ),
    "a_sweep_and_its_picture_taken_away": (REMADE, one_sweep_alone, "that the subject's checks are of is not kept"),
    "a_picture_twice": (
        REMADE,
        line(ORACLE, lambda row: row["maps"].append(row["maps"][0])),
        "are not one for each sweep that is kept",
    ),
    "a_sweep_of_less_memory_than_the_guest_has": (
        REMADE,
        of_host(guests="protected (208 MiB), plain (192 MiB)"),
        "the sweep is of 16 pages, and guest protected has 53248",
    ),
    "a_moment_at_which_the_kernel_mapped_private_content": (
        REMADE,
        keep_file(
            ORACLE,
            "protected.txt",
            "  0.050 s:   6174 frames hold the content,      3 mapped by the kernel,      0 by a process\n",
        ),
        "protected.txt: 0.050 s: 6174 frames hold the content, 3 mapped by the kernel",
    ),
    "private_pages_that_a_process_maps": (
        REMADE,
        keep_file(
            ORACLE,
            "holders.txt",
            "protected: 5 private pages\n       4 mapped by nobody\n       1 mapped by a process\n",
        ),
        "holders.txt: 1 mapped by a process",
    ),
    # logs
    "an_empty_log": (REMADE, write_file(LOG, ""), "console.log is empty"),
    "a_log_without_its_begin": (
        REMADE,
        lambda f: (f / LOG).write_text("[ 1.0] x\n" + (f / LOG).read_text()),
        "does not begin with the kernel's boot",
    ),
    "a_log_of_another_kernel": (REMADE, swap(LOG, "6.12.117", "5.4.0"), "is of Linux 5.4.0 by gcc 12.2.0"),
    "a_release_that_the_log_has_not": (REMADE, another_release, "is of Linux 6.12.117 by gcc 12.2.0"),
    "a_compiler_that_the_log_has_not": (REMADE, kernel(compiler="clang 19.1.0"), "is of Linux 6.12.117 by gcc 12.2.0"),
    "a_warning_of_lockdep": (REMADE, ends(LOG, "[ 9.9] WARNING: suspicious RCU usage\n"), "WARNING: suspicious RCU"),
    "an_oops_of_an_older_kernel": (REMADE, ends(LOG, "[ 9.9] divide error: 0000 [#1] SMP\n"), "divide error: 0000"),
    "a_double_fault": (
        REMADE,
        ends(LOG, "[ 9.9] traps: PANIC: double fault, error_code: 0x0\n"),
        "PANIC: double fault",
    ),
    "a_killed_init": (REMADE, ends(LOG, "[ 9.9] Attempted to kill init!\n"), "Attempted to kill init"),
    # record
    "a_tier_of_real_machines": (REMADE, record(tier="bare-metal"), "it names no machine of an inventory"),
    "a_real_machine_of_qemus": (
        REMADE,
        both(record(tier="bare-metal"), of_host(machine="node1")),
        "its tier is bare-metal, and its processor is of QEMU's making",
    ),
    "a_nested_tier": (REMADE, record(tier="nested"), "its tier is nested, and its processor is of QEMU's making"),
    "a_host_of_another_tier": (REMADE, of_host(kind="nested (QEMU on KVM)"), "its tier is emulated, and its host is"),
    "a_field_more_in_the_record": (
        REMADE,
        record(comment="proved on SEV-SNP"),
        "has comment, which a record must not have",
    ),
    "no_patches": (REMADE, kernel(patches=[]), "the series a-series has no patches"),
    "a_patch_twice": (
        REMADE,
        kernel(patches=[{"name": "0001-x.patch", "sha256": "ef" * 32}] * 2),
        "a patch stands there twice",
    ),
    "a_patch_without_its_hash": (
        REMADE,
        kernel(patches=[{"name": "0001-x.patch", "sha256": ""}]),
        "or without its SHA-256",
    ),
    "an_end_that_is_no_truth_value": (REMADE, record(interrupted=0), "its end or made_of are malformed"),
    "another_command": (REMADE, record(command="pytest elsewhere"), "its command is not the run's"),
    # what an attacker got
    "every_fourth_byte": (REMADE, leak_as(lambda c: c[::4]), "1024 bytes of the canary one byte of each 4"),
    "every_64th_byte": (REMADE, leak_as(lambda c: c[5::64]), "64 bytes of the canary one byte of each 64"),
    "every_third_byte": (REMADE, leak_as(lambda c: c[::3]), "1366 bytes of the canary one byte of each 3"),
    "halves_of_bytes": (
        REMADE,
        leak_as(lambda c: bytes(half for byte in c[:2048] for half in (byte >> 4, byte & 15))),
        "2048 bytes of the canary as halves of bytes",
    ),
    "base_32_in_small_letters": (REMADE, leak_as(lambda c: base64.b32encode(c[:500]).lower()), "as base32"),
    "words_as_od_has_them": (
        REMADE,
        leak_as(lambda c: " ".join(f"{int.from_bytes(group, 'little'):04x}" for group in words(c[:400], 2)).encode()),
        "400 bytes of the canary as hexadecimal words of 2 bytes",
    ),
    "words_as_a_debugger_has_them": (
        REMADE,
        leak_as(
            lambda c: "\t".join(
                str(int.from_bytes(group, "little", signed=True)) for group in words(c[:800], 8)
            ).encode()
        ),
        "800 bytes of the canary as decimal words of 8 bytes",
    ),
    "each_byte_in_a_word": (
        REMADE,
        leak_as(lambda c: b"".join(bytes([byte, 1, 2, 3]) for byte in c)),
        "bytes of the canary with 3 bytes between each two",
    ),
    "two_bytes_in_another_order": (
        REMADE,
        leak_as(lambda c: b"".join([*words(c, 2)][::-1])),
        "all bytes of the canary in another order",
    ),
    "four_bytes_in_another_order": (
        REMADE,
        leak_as(lambda c: b"".join([*words(c, 4)][100::-1])),
        "the evidence gives FAIL: leaked: ",
    ),
    "all_bytes_sorted": (REMADE, leak_as(lambda c: bytes(sorted(c))), "all bytes of the canary in another order"),
    "xored_with_eight_bytes": (
        REMADE,
        leak_as(lambda c: bytes(a ^ b for a, b in zip(c, bytes(range(17, 25)) * 512, strict=True))),
        "bytes of the canary XORed with 8 bytes",
    ),
    "a_number_added": (
        REMADE,
        leak_as(lambda c: bytes(byte + 13 & 255 for byte in c)),
        "4095 bytes of the canary with a number added to each",
    ),
    "bits_rotated": (REMADE, leak_as(lambda c: rotate(c, 3)), "with each byte's bits rotated by 5"),
    "bits_shifted": (
        REMADE,
        leak_as(lambda c: (int.from_bytes(c, "big") << 3).to_bytes(4097, "big")),
        "bytes of the canary shifted by 5 bits",
    ),
    "bits_as_text": (REMADE, leak_as(lambda c: "".join(f"{byte:08b}" for byte in c).encode()), "of the canary as bits"),
    "a_bit_in_a_byte": (
        REMADE,
        leak_as(lambda c: bytes(byte >> bit & 1 for byte in c[:512] for bit in range(8))),
        "512 bytes of the canary as bits",
    ),
    "decimal_numbers": (REMADE, leak_as(lambda c: " ".join(map(str, c)).encode()), "as decimal numbers"),
    "octal_numbers": (REMADE, leak_as(lambda c: "".join(f"\\{byte:03o}" for byte in c).encode()), "as octal numbers"),
    "base_32": (REMADE, leak_as(base64.b32encode), "as base32"),
    "base_85": (REMADE, leak_as(base64.b85encode), "as base85"),
    "quoted_as_in_a_url": (REMADE, leak_as(lambda c: c.hex("%").encode()), "as hexadecimal digits"),
    "hexadecimal_in_utf_16": (REMADE, leak_as(lambda c: c.hex().encode("utf-16-le")), "as hexadecimal digits"),
    "hexadecimal_of_hexadecimal": (
        REMADE,
        leak_as(lambda c: c[:1000].hex().encode().hex().encode()),
        "1000 bytes of the canary as hexadecimal digits",
    ),
    "a_private_page_of_another_claim": (REMADE, page_of_another_claim, "leaked, which host_cannot_write has planted"),
    "bytes_written_in_another_way": (
        REMADE,
        change_seen("host_reads_zeros", "subject", lambda row: row.update(data="00 " * 4096)),
        "its bytes are not in the form in which a run keeps them",
    ),
    # lines, journal
    "another_sentence": (REMADE, line("host_cannot_read", saying(sentence="No host can.")), "which was not planned"),
    "another_reason_of_a_pass": (REMADE, line("host_cannot_read", saying(why="SEV-SNP")), "why is 'SEV-SNP'"),
    "another_reason_of_a_skip": (REMADE, line("qemu_has_no_vfio", saying(why="all well")), "is of no SKIP"),
    "another_command_of_a_claim": (REMADE, line("guest_works", saying(command="true")), "its command is not the run's"),
    "other_plans": (REMADE, write_file("planned.json", "{}"), "which was not planned"),
    "a_strange_event": (
        REMADE,
        events(lambda content: content.insert(1, {**content[0], "event": "note"})),
        "has note, which is no event of a run",
    ),
    "no_nonce": (REMADE, events(lambda content: content[0].update(nonce="")), "journal.jsonl has no nonce"),
    # files
    "a_page_more": (REMADE, write_file("logs/look.html", "<script>"), "logs/look.html is a file that no report has"),
    "a_second_report_beside": (
        REMADE,
        write_file("signoff2.html", "PROTECTED"),
        "signoff2.html is a file that no report has",
    ),
    "a_text_beside": (REMADE, write_file("README", "Proved on SEV-SNP.\n"), "README is a file that no report has"),
    "a_folder_beside": (REMADE, write_file("more/x.txt", ""), "more/x.txt is a file that no report has"),
    "evidence_with_a_script": (
        REMADE,
        keep_file("guest_works", "x.SVG", "<svg/>"),
        "x.SVG is a file that no report has",
    ),
    "a_name_that_differs_by_case": (
        REMADE,
        write_file("SIGNOFF.HTML", ""),
        "are the same file where case does not count",
    ),
    "a_name_that_ends_in_a_dot": (
        REMADE,
        write_file("signoff.html.", ""),
        "the name 'signoff.html.' is not a plain name",
    ),
    "a_name_of_a_stream": (REMADE, write_file("signoff.html:x", ""), "the name 'signoff.html:x' is not a plain name"),
    # exports
    "json_of_parts_that_are_none": (SEALED, document(saying(fleet={"parts": []})), "has fleet, which no report has"),
    "junit_of_other_counts": (SEALED, swap("junit.xml", "<testsuites>", '<testsuites tests="9">'), "it has tests"),
    "junit_with_a_suite_in_a_suite": (
        SEALED,
        swap("junit.xml", "</properties>", '</properties><testsuite name="hardware"/>'),
        "11 where there must be 10",
    ),
    "junit_of_two_verdicts": (
        SEALED,
        swap("junit.xml", '<property name="verdict"', '<property name="verdict" value="X"/><property name="verdict"'),
        "6 where there must be 5",
    ),
    "junit_of_another_tier": (
        SEALED,
        swap("junit.xml", 'name="tier" value="emulated"', 'name="tier" value="bare-metal"'),
        "is 'bare-metal', not 'emulated'",
    ),
    "junit_of_another_outcome": (
        SEALED,
        swap("junit.xml", "observed: returned -1", "observed: on SEV-SNP returned -1"),
        "observed: on SEV-SNP returned -1",
    ),
    "junit_with_a_field_more": (
        SEALED,
        swap("junit.xml", 'name="qemu_has_no_vfio"', 'name="qemu_has_no_vfio" status="passed"'),
        "it has status",
    ),
    "junit_with_a_text_between": (SEALED, swap("junit.xml", "<properties>", "PROVED<properties>"), "is 'PROVED'"),
    "junit_with_a_style": (
        SEALED,
        swap("junit.xml", "<testsuites>", '<?xml-stylesheet href="https://x/"?><testsuites>'),
        "declares what no report may declare",
    ),
    "tap_with_a_subtest": (SEALED, ends("signoff.tap", "    ok 1 - proved_on_hardware\n"), "signoff.tap has 60 lines"),
    "tap_of_another_outcome": (
        SEALED,
        swap("signoff.tap", "returned -1 EFAULT", "returned 0 on hardware"),
        "returned 0 on hardware",
    ),
    "sarif_of_another_tier": (
        SEALED,
        of_json("signoff.sarif", lambda content: content["runs"][0]["properties"].update(tier="bare-metal")),
        "properties.tier is 'bare-metal', not 'emulated'",
    ),
    "sarif_of_other_rules": (
        SEALED,
        of_json(
            "signoff.sarif", lambda content: content["runs"][0]["tool"]["driver"]["rules"][0].update(help={"text": "x"})
        ),
        "rules[0].help.text is 'x'",
    ),
    "sarif_suppressed": (
        SEALED,
        of_json("signoff.sarif", lambda content: content["runs"][0]["results"][0].update(suppressions=[])),
        "it has suppressions",
    ),
    "kcidb_waived": (
        SEALED,
        of_json("kcidb.json", lambda content: content["tests"][0].update(waived=True)),
        "it has waived",
    ),
    "kcidb_of_another_host": (
        SEALED,
        of_json("kcidb.json", lambda content: content["tests"][0]["environment"].update(comment="tier bare-metal")),
        "comment is 'tier bare-metal', not 'tier emulated'",
    ),
    "kcidb_of_another_source": (
        SEALED,
        of_json("kcidb.json", lambda content: content["checkouts"][0].update(git_commit_hash="0" * 40)),
        "it has git_commit_hash",
    ),
    "kcidb_with_issues": (SEALED, of_json("kcidb.json", saying(issues=[])), "kcidb.json: it has issues"),
    # statement, page
    "statement_that_says_more": (RAW, predicate(saying(hardware="SEV-SNP")), "the statement has hardware, which"),
    "statement_made_of_more": (
        RAW,
        predicate(lambda content: content["configuration"].append({"name": "SEV-SNP", "digest": {"sha256": OTHER}})),
        "names SEV-SNP, which the record does not",
    ),
    "statement_with_a_field_more": (RAW, payload(saying(comment="x")), "has comment, which a statement must not have"),
    "envelope_of_another_key": (
        RAW,
        swap("attestation.json", '"keyid": "', '"keyid": "00'),
        "names another key than signing-key.pub",
    ),
    "page_with_a_heading_more": (
        SEALED,
        html("<main>", "<main><h2>Proved on SEV-SNP</h2>"),
        "is '<main><h2>Proved on SEV-SNP</h2>'",
    ),
    "page_with_words_for_the_blind": (
        SEALED,
        html("<main>", '<main aria-label="Proved on SEV-SNP">'),
        "is '<main aria-label=",
    ),
    "page_with_words_for_search_engines": (
        SEALED,
        html("<title>", '<meta name="description" content="certified"><title>'),
        "is '<meta name=",
    ),
    "page_of_another_sentence": (
        SEALED,
        html("Every attack was refused exactly", "Every attack on every machine was refused exactly"),
        "Every attack on every machine was refused",
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    far, edit, expected = ATTEMPTS[name]
    carry_out(report, edit, far)
    code, text = check(report, capsys)
    assert (code, expected in text) == (3, True), text


def test_another_series_of_the_same_name_must_be_named(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"  conftest.py\n{OTHER}  host_setup/kernel/series/a-series/0001-x.patch\n"
    change_list("sealproof", "  conftest.py\n", other)(report)
    remake_or_seal(report)
    code, text = check(report, capsys)
    assert (code, "series a-series is not sealproof's of that name" in text) == (2, True), text
    sums = hashlib.sha256(f"{'ef' * 32}  0001-x.patch\n".encode()).hexdigest()
    assert check(report, capsys, "--series", sums)[0] == 0


@pytest.mark.parametrize("size", [1, 3, 8, 64, 512, 4096])
def test_random_bytes_are_no_canary(size: int) -> None:
    from verifier.leaks import find_hidden  # noqa: PLC0415

    page = canary_of(hashlib.sha256(b"page").digest())
    for number in range(20):
        data = canary_of(hashlib.sha256(f"{size} {number}".encode()).digest())[:size]
        assert not find_hidden(page, data)[0]
