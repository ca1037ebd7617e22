# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts as in ``test_tampering``, beside the observations: hosts' files, sizes, places."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from signoff import results
from tests.unit.test_tampering import Edit, both, change_seen, check, remake_or_seal, saying
from tests.unit.test_tampering_kinds import HEALTH, LOG, ORACLE, ends, events, keep_file, of_host, of_json, write_file
from tests.unit.test_tampering_needs import READS
from verifier import beside, bounds
from verifier import run as runs
from verifier.tree import load

ROOT = Path(__file__).resolve().parents[2]
QMP = "hosts/host-1/qmp.jsonl"
CONSOLE, TIMES = "hosts/host-1/console.log", "hosts/host-1/console.times"
MOMENT = "  0.050 s:   6174 frames hold the content,      0 mapped by the kernel,      0 by a process\n"
COMMAND = {"time": 1796064739.1, "execute": "cont", "arguments": {}, "reply": {}}
SIZE = {**COMMAND, "execute": "query-memory-size-summary", "reply": {"base-memory": 1280 << 20, "plugged-memory": 0}}


def in_all(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Change each observation of a claim."""
    places = [("subject", at) for at in range(3)] + [("control", at) for at in range(6)]
    return both(*(change_seen(READS, role, change, at) for role, at in places))


def in_reach(before: str, after: str) -> Edit:
    return in_all(lambda one: one.update(reach=[text.replace(before, after) for text in one["reach"]]))


def moved(name: str, by: int) -> Edit:
    """Have the pages of a claim lie elsewhere, in all that tells of them."""

    def elsewhere(address: str) -> str:
        return hex(int(address, 16) + by)

    def in_observation(one: dict[str, Any]) -> None:
        at = one["aim"][name]
        one["reach"] = [text.replace(f"{at},", f"{elsewhere(at)},") for text in one["reach"]]
        one["reach"] = [text.removesuffix(at) + elsewhere(at) if text.endswith(at) else text for text in one["reach"]]
        one["aim"][name] = elsewhere(at)

    def in_journal(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["event"] == "planted" and row["claim"] == READS:
                row[name] = elsewhere(row[name])

    return both(in_all(in_observation), events(in_journal))


def plant_again(rows: list[dict[str, Any]]) -> None:
    at = next(at for at, row in enumerate(rows) if row["event"] == "planted" and row["claim"] == READS)
    rows.insert(at, {**rows[at], "commitment": "ab" * 32})


def transcript(*rows: object) -> Edit:
    return write_file(QMP, "".join(f"{json.dumps(row)}\n" for row in rows))


ATTEMPTS: dict[str, tuple[Edit, str]] = {
    "more_processors_than_the_kernel_has": (
        both(of_host(cpus="64"), ends(LOG, "[ 0.3] CPU topo: Allowing 3 present CPUs plus 0 hotplug CPUs\n")),
        "it has 3 CPUs to the kernel, and the record's host 64 CPUs",
    ),
    "more_memory_than_the_kernel_has": (
        both(of_host(memory="1048576 MiB"), ends(LOG, "[ 1.1] Memory: 1266172K/1310176K available (8192K kernel)\n")),
        "it has 1310176 KiB to the kernel, and the record's host 1048576 MiB",
    ),
    "a_layer_that_is_not_configured": (
        of_json("record.json", lambda told: told["host"].update({"kernel's layers": "debug"})),
        "its kernel has the layer debug, and no CONFIG_PROVE_LOCKING",
    ),
    "features_that_no_emulator_has": (
        of_host(kind="emulated (QEMU TCG, SVM, nested paging)", features="svm, npt, sev, sev_es, pku, avx2"),
        "its host is emulated, and has sev, which no emulator has",
    ),
    "a_processor_of_another_cpu": (
        both(
            of_host(kind="emulated (QEMU TCG, SVM, nested paging)", cpu="EPYC-Genoa"),
            of_host(processor="AuthenticAMD, QEMU TCG CPU version 2.5+"),
        ),
        "and its cpu EPYC-Genoa",
    ),
    "a_kernel_of_the_machines_own": (
        of_json("record.json", lambda told: told["host"].update({"own kernel": "6.12.0-cloud"})),
        "it has a kernel of its own beside the one under test",
    ),
    "a_page_beyond_the_hosts_memory": (
        both(of_host(memory="1280 MiB"), moved("hpa", 1 << 44)),
        "its host has no memory at 0x10004",
    ),
    "a_page_in_the_kernels_half": (
        both(
            in_reach("7f0000000000-7f0010000000", "ffff880000000000-ffff880010000000"),
            in_all(lambda one: one["aim"].update(mapping=["0xffff880000000000", "0xffff880010000000"])),
            events(
                lambda rows: [
                    row.update(mapping=["0xffff880000000000", "0xffff880010000000"])
                    for row in rows
                    if row["event"] == "planted" and row["claim"] == READS
                ]
            ),
            moved("hva", 0xFFFF880000000000 - 0x7F0000000000),
        ),
        "no process has an address like 0xffff88000",
    ),
    "one_process_for_two_guests": (
        both(in_reach("pid 104", "pid 103"), in_reach("/proc/104/", "/proc/103/")),
        "the process 103 is the QEMU of protected and of plain",
    ),
    "another_word_of_kvms": (
        in_reach("private_pages: 4096", "private_pages: 4096 certified_by_its_maker: 1"),
        "of its place, and no probe says that",
    ),
    "a_protected_guest_without_a_private_page": (
        in_reach("private_pages: 4096", "private_pages: 0"),
        "its guest has 0 private pages to KVM",
    ),
    "a_plain_guest_with_private_pages": (
        in_reach("enabled: 0 private_pages: 0", "enabled: 0 private_pages: 7"),
        "its guest has 7 private pages to KVM",
    ),
    "the_address_of_a_fault_without_a_signal": (
        change_seen(READS, "subject", saying(si_addr="0x1000")),
        "it ended by no signal, and its si_addr is 0x1000",
    ),
    "a_page_that_was_tried_and_is_not_told": (
        events(plant_again),
        "a second user page (private) was planted, and nothing is told of it",
    ),
    "a_host_that_is_missing": (
        both(write_file(CONSOLE, "x\n"), write_file("hosts/host-3/console.log", "x\n")),
        "hosts/host-2 is missing: each host that was started leaves one",
    ),
    "no_host_at_all": (
        lambda folder: shutil.rmtree(folder / "hosts"),
        "hosts/host-1 is missing: each host that was started leaves one",
    ),
    "a_console_of_a_real_machine": (
        write_file("hosts/console.log", "x\n"),
        "is of a real machine, and the host is none",
    ),
    "a_file_of_another_emulator": (
        write_file("hosts/host-1/bochsrc", "x\n"),
        "is of another emulator than the record's",
    ),
    "a_word_in_a_transcript": (transcript({**COMMAND, "certified": True}), "which is no command of a run"),
    "a_command_that_no_run_gives": (transcript({**COMMAND, "execute": "certify"}), "which is no command of a run"),
    "a_reply_that_is_a_sentence": (transcript({**COMMAND, "reply": "Certified."}), "which is no command of a run"),
    "a_transcript_that_is_none": (write_file(QMP, "Certified.\n"), "is not valid JSON"),
    "a_host_of_another_size_to_qemu": (
        both(of_host(memory="1536 MiB"), transcript(COMMAND, SIZE)),
        "its host has 1342177280 bytes, and to the record 1536 MiB",
    ),
    "times_of_no_console": (
        both(write_file(CONSOLE, "x\n"), write_file(TIMES, "Certified.\n")),
        "has a line that is not a time and a number of bytes",
    ),
    "a_console_that_was_cut": (
        both(write_file(CONSOLE, "x\n"), write_file(TIMES, "1796064625.648 171\n")),
        "tells of 171 bytes, and hosts/host-1/console.log has 2",
    ),
    "a_word_of_praise_in_a_text": (
        keep_file(ORACLE, "protected.txt", f"{MOMENT}Certified on real hardware.\n"),
        "has the line 'Certified on real hardware.', which no such text has",
    ),
    "a_word_of_praise_in_a_trace": (
        keep_file(HEALTH, "cleared.txt", "# tracer: nop\n#\nCertified on real hardware.\n"),
        "has the line 'Certified on real hardware.', which no such text has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, words = ATTEMPTS[name]
    edit(report)
    remake_or_seal(report)
    code, text = check(report, capsys)
    assert (code, words in text) == (3, True), text


def test_what_hosts_and_texts_say_is_taken_as_it_is(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both(
        of_host(memory="1280 MiB", cpus="3"),
        write_file(CONSOLE, "x\n"),
        write_file(TIMES, "1796064625.648 2\n"),
        transcript(
            *(COMMAND, SIZE, {**COMMAND, "reply": {"error": "no"}}),
            {**COMMAND, "execute": "human-monitor-command", "reply": "info\r\n"},
        ),
        keep_file(ORACLE, "protected.txt", MOMENT),
        ends(LOG, "[ 0.3] CPU topo: Allowing 3 present CPUs plus 0 hotplug CPUs\n"),
    )(report)  # fmt: skip
    remake_or_seal(report)
    code, text = check(report, capsys)
    assert code == 0, text


@pytest.mark.parametrize(
    "line",
    [
        MOMENT,
        "protected: 26450 private pages\n        7863 mapped by nobody\n",
        "       3944 mapped by its own nested page tables + the kernel + a process\n",
        "       1 mapped by an address space that has nothing else\n",
        "topmost tables: 19\nkernel: 137 tables, 11076 leaves, 30996 guests' frames mapped\n",
        "address spaces of one page: 1 tables, 0 leaves, 0 guests' frames mapped\n",
        (
            "6 sequences, 2 operations, 7 answers; looks at pages: "
            "0 from which the VMM was kept, 6 that it read, 3 that it left"
        ),
        "# tracer: nop\n#\n    kworker/u8:2-41      [001] .....   12.345678: at_once0: (clear+0x1/0x2) cleared=1\n",
        "# tracer: nop\n           <...>-103     [000] d..1.    9.000001: nodes0: (call_rcu+0x0/0x10) flags=0x1\n",
    ],
)
def test_texts_of_a_run_have_their_forms(tmp_path: Path, line: str) -> None:
    (tmp_path / "evidence/a").mkdir(parents=True)
    (tmp_path / "evidence/a/walked.txt").write_text(line)
    assert beside.text_fault(load(tmp_path), "evidence/a/walked.txt") == ""


def test_a_real_machine_leaves_its_console(tmp_path: Path) -> None:
    (tmp_path / "hosts").mkdir()
    for name in ("console.log", "console.log.stderr"):
        (tmp_path / "hosts" / name).touch()
    assert list(beside.host_faults(load(tmp_path), {"machine": "node1"}, emulated=False, tried=True)) == []
    assert len(list(beside.host_faults(load(tmp_path), {"cpu": "TCG"}, emulated=True, tried=True))) == 3


@pytest.mark.parametrize(
    ("guest", "size", "fits"),
    [("protected", 208, True), ("protected", 200, False), ("protected", 8, False), ("protected", 209, False),
     ("another-protected", 80, True), ("another-protected", 209, False), ("sev-snp", 208, False)],
)  # fmt: skip
def test_a_sweep_is_of_the_guest_that_the_record_names(guest: str, size: int, *, fits: bool) -> None:
    """Of 208 MiB and 64 pages of firmware."""
    told: Any = SimpleNamespace(record={"host": {"guests": f"protected ({size} MiB), plain (192 MiB)"}})
    sweep: Any = SimpleNamespace(fates=dict.fromkeys(range((208 << 8) + 64)))
    assert (runs._small(told, guest, sweep) == "") is fits


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ({"gpa": "0xcfff000"}, ""),
        ({"gpa": "0xd000000"}, "its guest has no memory at 0xd000000"),
        ({"gpa": "0x100000000"}, ""),  # above the devices' addresses
        ({"gpa": "0x10d000000"}, "its guest has no memory at 0x10d000000"),
        ({"hpa": "0x50000000"}, "its host has no memory at 0x50000000"),
        ({"hva": "0x100000000000000"}, "no process has an address like 0x100000000000000"),
    ],
)
def test_a_page_lies_where_a_page_can(at: dict[str, str], words: str) -> None:
    host = {"guests": "protected (208 MiB), plain (192 MiB)", "memory": "1280 MiB"}
    aim = {"guest": "protected", "gpa": "0x1000", "hva": "0x7f0000001000", "hpa": "0x40001000", **at}
    assert bounds.place(host, aim) == words
    assert bounds.place({}, {**aim, "hva": "0x7f0000001000"}) == ""


def test_the_verifier_knows_each_command_of_qmp_that_the_code_gives() -> None:
    """A command that it does not know makes an honest report unsound."""
    rooms = ("host_setup", "signoff", "tests_e2e", "cli", "common")
    code = [file.read_text(encoding="utf-8") for room in rooms for file in (ROOT / room).rglob("*.py")]
    given = {name for text in code for name in re.findall(r"\bexecute\(\s*\"([a-z_-]+)\"", text)}
    assert len(given) > 10
    assert given <= beside._COMMANDS


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a read of the frame at host-physical 0x1000, which it left, met: its bytes", "frame"),
        ("a read of the frame at host-physical 0x1000, which it left, met: EFAULT", "frame"),
        ("bytes of the page came", "faults"),
        ("the host's CPUs took 2 faults at the page", "faults"),
        ("the host's CPUs took 0 faults at the page", ""),
        ("the dump tells of the mapping", "mapping"),
        ("certified", ""),
    ],
)
def test_judge_and_verifier_have_the_same_word_for_what_a_probe_met(text: str, kind: str) -> None:
    run = SimpleNamespace(reach=(text,))
    assert (results._kind_met(cast("Any", run)), bounds.kind_met([text])) == (kind, kind)
