# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts by parts of a report that do not go together: a forger makes all else anew (``forger``).

Each of them said PROTECTED once: nothing looked at the order of claims, at logs beside the evidence, at lists that
list nothing, at what a host of a kind has.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import pytest

from signoff import surroundings
from signoff.record import LISTS
from signoff.verdict import Status
from tests.unit import forger
from tests.unit.report_samples import BANNER, CONFIGURATION, HOST, KEY, small_report
from tests.unit.test_tampering import Edit, both, change_seen, check, line, record, swap
from tests.unit.test_tampering_forger import every_place, of_command, sweep
from tests.unit.test_tampering_kinds import ORACLE, ends, events, keep_file, of_host, of_json, write_file
from verifier import bounds

FIRST, SECOND = "host_cannot_read", "host_cannot_write"
LOG = "evidence/host_kernel_stays_healthy/console.log"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_report(tmp_path_factory.mktemp("whole") / "reports", KEY, host={**HOST, "cpus": "3"})


def at_the_same_time(folder: Path) -> None:
    """The second claim's pages are planted before the first claim is judged."""
    path = folder / "journal.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    early = [event for event in lines if event.get("claim") == SECOND]
    rest = [event for event in lines if event.get("claim") != SECOND]
    at = next(at for at, event in enumerate(rest) if event["event"] == "claim")
    for event in early:
        event["time"] = rest[at - 1]["time"]
    path.write_text("".join(f"{json.dumps(event)}\n" for event in [*rest[:at], *early, *rest[at:]]))
    moment = early[0]["time"]
    for role, count in (("subject", 3), ("control", 6)):
        for number in range(count):
            change_seen(SECOND, role, lambda one: one["aim"].update(planted=moment), number)(folder)


def of_list(name: str, text: str) -> Edit:
    """Another list of what the run is made of, which the record names."""

    def edit(folder: Path) -> None:
        (folder / LISTS[name]).write_text(text)
        content = {name: hashlib.sha256(text.encode()).hexdigest()}
        of_json("record.json", lambda entries: entries["made_of"].update(content))(folder)

    return edit


def of_configuration(text: str) -> Edit:
    def edit(folder: Path) -> None:
        (folder / "identity/kernel.config").write_text(text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        of_json("record.json", lambda content: content["kernel"].update(config_sha256=sha256))(folder)

    return edit


def console(text: str) -> Edit:
    return write_file("hosts/host-1/console.log", f"[    0.000000] {BANNER}\n{text}\n")


ONE = f"{'05' * 32}  README\n"
REAL = {"machine": "node1", "kind": "real machine, by SSH and kexec", "processor": "AuthenticAMD, EPYC"}
OTHER_COMMANDS = {
    "a_command_that_loads_a_plugin": ("-p evil.judge", "loads the plugin evil.judge, and no problem names it"),
    "a_command_that_loads_a_plugin_in_one_word": ("-vpevil", "loads the plugin evil, and no problem names it"),
    "a_command_of_a_file": ("@options", "has the option @, and no problem names it"),
    "a_command_of_settings_behind_a_flag": ("-vo x=y", "has the option -o, and no problem names it"),
    "a_command_that_only_lists": ("--collect-only", "has the option --collect-only, with which no claim"),
    "a_command_that_only_plans": ("--dry-run", "has the option --dry-run, with which no claim is tried"),
    "a_command_that_only_answers": ("-h", "has the option -h, with which no claim is tried"),
    "a_command_of_a_nested_host": ("--host nested", "is of a host that is nested, and its tier emulated"),
    "a_command_of_the_stock_series": ("--series=stock", "is of the series stock, and its series a-series"),
}
"""Of a run by other words behind pytest: these, and what is told of them."""
ATTEMPTS: dict[str, tuple[Edit, str]] = {
    "two_claims_at_the_same_time": (at_the_same_time, f"{SECOND}: its pages were planted while {FIRST} ran"),
    "claims_that_took_longer_than_the_run": (
        both(*(line(name, lambda row: row.update(seconds=100.0)) for name in (FIRST, SECOND))),
        f"{SECOND}: claims took 200 s until its line, of a run of ",
    ),
    "a_sweep_of_one_page_and_of_many_that_are_not_there": (
        sweep(absent=[[0, 11]], found=[[11 * 4096, 1, "EFAULT"], [12 * 4096, 4, None]]),
        "11 pages were not tried by process_vm_readv",
    ),
    "a_sweep_in_no_time": (sweep(ns=1), "the sweep of guest protected took 1e-09 s, as none can"),
    "a_sweep_of_a_year": (sweep(ns=31_557_600 * 10**9), "the sweep of guest protected took 3.16e+07 s, as none can"),
    "a_sweep_of_a_guest_that_the_host_has_not": (
        of_host(guests="other (1 MiB)"),
        "the sweep is of guest protected, which the host has not",
    ),
    "a_guest_without_memory": (of_host(guests="protected (0 MiB), plain (0 MiB)"), "its host has guests"),
    "a_host_that_died_beside_the_evidence": (
        console("[ 9.1] Oops: Oops: 0000 [#1] SMP"),
        "hosts/host-1/console.log: [ 9.1] Oops: Oops: 0000 [#1] SMP",
    ),
    "a_host_that_hung_beside_the_evidence": (
        console("[ 9.1] watchdog: BUG: soft lockup - CPU#1 stuck for 24s! [qemu-system-x86:117]"),
        "hosts/host-1/console.log: [ 9.1] watchdog: BUG: soft lockup",
    ),
    "a_host_that_died_before_it_was_made_to_crash": (
        console("[ 9.1] kernel BUG at mm/gup.c:7!\n[ 9.2] Kernel panic - not syncing: sysrq triggered crash"),
        "hosts/host-1/console.log: [ 9.1] kernel BUG at mm/gup.c:7!",
    ),
    "moments_that_tell_nothing": (keep_file(ORACLE, "protected.txt", ""), "tells of no page of the guest's own"),
    "moments_in_words": (keep_file(ORACLE, "protected.txt", "nobody mapped it\n"), "which no such text has"),
    "holders_of_no_page": (
        keep_file(ORACLE, "holders.txt", "protected: 0 private pages\n"),
        "tells of no page of the guest's own",
    ),
    "a_list_of_no_files_of_ours": (of_list("sealproof's files", ""), "sealproof.sha256 lists nothing"),
    "a_list_of_other_files_than_ours": (of_list("sealproof's files", ONE), "sealproof.sha256 lists no conftest.py"),
    "a_list_of_no_packages": (of_list("Python and its packages", ""), "python.sha256 lists nothing"),
    "a_list_without_pytest": (
        of_list("Python and its packages", f"{'03' * 32}  python==3.11.2\n"),
        "python.sha256 lists no pytest==",
    ),
    "packages_in_words": (of_list("Python and its packages", "audited\n"), "has a malformed line: audited"),
    "an_emulator_of_no_files": (of_list("emulator", ""), "emulator.sha256 lists nothing"),
    "an_emulator_of_words": (of_list("emulator", "audited\n"), "has a malformed line: audited"),
    "a_configuration_that_says_both": (
        of_configuration(f"{CONFIGURATION}# CONFIG_KVM is not set\n"),
        "identity/kernel.config says twice what CONFIG_KVM is",
    ),
    "qemu_for_bochs": (of_host(kind="emulated (Bochs, VMX, EPT)"), "and its emulator another"),
    "bochs_for_qemu": (
        of_host(kind="emulated (QEMU TCG, SVM, nested paging)", emulator="Bochs x86 Emulator 3.0"),
        "its host is emulated (QEMU TCG, SVM, nested paging), and its emulator Bochs x86 Emulator 3.0",
    ),
    "svm_without_svm": (
        of_host(kind="emulated (QEMU TCG, SVM, nested paging)", features="vmx, ept"),
        "and its processor has no svm",
    ),
    "vmx_of_amd": (
        both(record(tier="nested"), of_host(kind="nested (QEMU on KVM, vmx)", features="vmx")),
        "its host is nested (QEMU on KVM, vmx), and its processor of AuthenticAMD",
    ),
    "a_real_machine_that_an_emulator_made": (
        both(record(tier="bare-metal"), of_host(**REAL), swap(LOG, "AMD QEMU", "AMD EPYC")),
        "its tier is bare-metal, and it is made of an emulator",
    ),
    "a_command_of_other_settings": (
        of_command("pytest tests_e2e -o sealproof_contract=weak.toml"),
        "its command has the option -o, and no problem names it",
    ),
    "a_command_without_conftest": (of_command("pytest --noconftest tests_e2e"), "has the option --noconftest"),
    "a_command_of_mode_plain": (of_command("pytest tests_e2e --mode=plain"), "its command is of mode plain"),
    **{
        name: (of_command(f"pytest tests_e2e {words}"), f"its command {fault}")
        for name, (words, fault) in OTHER_COMMANDS.items()
    },
    "a_fleets_command_of_other_settings": (
        of_command("python -m fleet run --each -- tests_e2e -o x=y"),
        "its command has the option -o, and no problem names it",
    ),
    "a_command_of_workers_of_other_settings": (
        of_command("sealproof signoff --workers 2 -c weak.toml"),
        "its command has the option -c, and no problem names it",
    ),
    "a_part_of_a_report_that_is_not_merged": (
        events(
            lambda content: content.insert(
                1, {"event": "part", "run": "by AMD", "sums": "", "time": content[0]["time"]}
            )
        ),
        "journal.jsonl has a part, and the report is not merged",
    ),
    "features_twice": (of_host(features="svm, svm"), "its host has features 'svm, svm', which no host has"),
    "a_device_without_a_driver": (
        of_host(devices="kvm, vhost-net, userfaultfd"),
        "its host has /dev/userfaultfd, and its kernel no CONFIG_USERFAULTFD",
    ),
    "a_vfio_that_is_not_told": (
        of_configuration(CONFIGURATION.replace("# CONFIG_VFIO is not set", "CONFIG_VFIO=y")),
        "its host has no /dev/vfio/vfio, and its kernel brings it (CONFIG_VFIO=y)",
    ),
    "protection_keys_that_are_not_told": (
        both(
            of_host(features="svm, npt"),
            ends(LOG, "[    0.2] x86/fpu: Supporting XSAVE feature 0x200: 'Protection Keys User registers'\n"),
        ),
        "and the record's host has no pku",
    ),
    "an_oops_amid_an_allocation_that_was_made_to_fail": (
        swap(LOG, "[    9.2] Call Trace:", "[    9.2] Oops: Oops: 0000 [#1] SMP\n[    9.2] Call Trace:"),
        f"{LOG}: [ 9.2] Oops: Oops: 0000 [#1] SMP",
    ),
    "a_page_of_which_alone_it_is_told_what_was_met": (
        change_seen(
            FIRST,
            "subject",
            lambda row: row.update(reach=[*row["reach"], "the host's CPUs took 2 faults at the page"]),
        ),
        "some of its probes say what they met at their pages, and others do not",
    ),
    "a_file_of_evidence_that_is_empty": (keep_file(ORACLE, "walked.txt", ""), "walked.txt is empty"),
    "a_page_that_no_fault_met": (
        every_place(lambda content: [*content, "the host's CPUs took 0 faults at the page"]),
        "and no probe says that",
    ),
    "a_mapping_of_another_process": (
        every_place(lambda content: [content[0], content[1].replace("pid 103", "pid 104"), *content[2:]]),
        "its mapping is of the process 104, and its QEMU is 103",
    ),
    "a_mapping_that_its_flags_are_not_of": (
        every_place(lambda content: [*content[:2], content[2].replace("rw-p", "---p"), content[3]]),
        "and no probe says that",
    ),
    "a_log_of_the_whole_run": (
        write_file("logs/audit.txt", "PROTECTED"),
        "logs/audit.txt is a file that no report has",
    ),
    "a_text_beside_the_consoles": (write_file("hosts/host-1/audit.txt", "PROTECTED"), "is a file that no report has"),
    "a_host_of_another_name": (write_file("hosts/by-amd/console.log", "PROTECTED"), "is a file that no report has"),
    "a_log_of_a_devices_name": (write_file("logs/NUL.txt", "x"), "the name 'logs/NUL.txt' is not a plain name"),
    "a_log_that_is_an_option": (write_file("logs/-rf.log", "x"), "the name 'logs/-rf.log' is not a plain name"),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    edit, words = ATTEMPTS[name]
    folder = Path(shutil.copytree(original, tmp_path / original.name))
    edit(folder)
    forger.anew(folder)
    code, output = check(folder, capsys)
    assert (code, words in output) == (3, True), output


HONEST: dict[str, Edit] = {
    "a_host_that_a_claim_made_crash": console(
        "[ 9.2] Kernel panic - not syncing: sysrq triggered crash\n[ 9.3] Call Trace:\n[ 0.0] Oops: of the second"
    ),
    **{
        f"a_command_with_{name}": of_command(f"pytest tests_e2e {words}")
        for name, words in {
            "a_plugin_less": "-p no:cacheprovider",
            "a_plugin_of_ours": "-p fleet.only --only-slice 1/2",
            "a_selection": "-x -k 'not -p' -m quick",
            "its_own_host": "--host=emulated",
            "a_series": "--series /srv/a-series",
        }.items()
    },
    "what_kept_hosts_leave": write_file("hosts/kept.json", "{}"),
    "what_a_set_up_that_fails_leaves": write_file("hosts/traceback.txt", "Traceback (most recent call last):\n"),
    "a_trace_of_the_kernel": keep_file(ORACLE, "protected.txt", "# tracer: nop\n#\n"),
    "a_host_that_says_what_it_is": of_host(kind="emulated (QEMU TCG, SVM, nested paging)"),
    "a_command_with_options": of_command("pytest tests_e2e --mode plain --mode protected -p no:cacheprovider -rA"),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_goes_together_is_protected(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = Path(shutil.copytree(original, tmp_path / original.name))
    HONEST[name](folder)
    forger.anew(folder)
    code, output = check(folder, capsys)
    assert code == 0, output


def test_a_dead_host_is_no_news_where_a_claim_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_report(tmp_path / "reports", KEY, statuses={FIRST: Status.FAIL})
    console("[ 9.1] Oops: Oops: 0000 [#1] SMP")(folder)
    forger.anew(folder)
    code, output = check(folder, capsys)
    assert code == 1, output


def test_the_verifier_knows_the_options_that_the_plugin_names() -> None:
    assert (*surroundings._OPTIONS, "@") == bounds.OPTIONS
    assert bounds._OURS == surroundings._OURS


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        (["-p", "no:cacheprovider", "-p", "fleet.only", "-pno:x"], []),
        (["-p", "pytester"], ["pytester"]),
        (["-vxppytester", "-p", "judge"], ["pytester", "judge"]),
        (["-k", "p", "-m", "quick", "tests_e2e"], []),
    ],
)
def test_each_plugin_that_a_command_loads_is_named(words: list[str], loaded: list[str]) -> None:
    """Or the verifier would refuse a report whose run named no problem."""
    assert [*surroundings._loaded(words)] == loaded
    refused = bounds._of_command({"command": shlex.join(["pytest", *words]), "problems": [], "mode": "protected"})
    assert bool(refused) is bool(loaded)
