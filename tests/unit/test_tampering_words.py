# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts by words of the signer alone, as in ``test_tampering``; each of them said PROTECTED once.

A reader sees them on a page that is sound: facts of the host, names, what shows where a probe was aimed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from host_setup.hosts.facts import DEVICES, FEATURES
from host_setup.kernel.layers import Layer
from signoff.contract import Mode
from signoff.record import LISTS
from tests.unit.report_samples import COMMIT, HOST, KERNEL, KEY, MADE_OF, small_report
from tests.unit.test_tampering import (
    Edit,
    both,
    change_seen,
    change_sweep,
    check,
    line,
    record,
    remake_or_seal,
    saying,
    swap,
)
from tests.unit.test_tampering_details import events
from verifier import bounds

READS = "host_cannot_read"
LOG = "evidence/host_kernel_stays_healthy/console.log"


def host(**facts: str) -> Edit:
    return record(host={**HOST, **facts})


def kernel(**facts: str) -> Edit:
    return record(kernel={**asdict(KERNEL), **facts})


def reached(change: Callable[[str], str], role: str = "subject", at: int = 0) -> Edit:
    """Change each text of what shows where a probe was aimed."""

    def edit(row: dict[str, Any]) -> None:
        row["reach"] = [change(text) for text in row["reach"]]

    return change_seen(READS, role, edit, at)


def reached_without(word: str, at: int) -> Edit:
    """Take a text away from what shows where a control was aimed."""

    def edit(row: dict[str, Any]) -> None:
        row["reach"] = [text for text in row["reach"] if not text.startswith(word)]

    return change_seen(READS, "control", edit, at)


def beside(text: str) -> Edit:
    return change_seen(READS, "subject", lambda row: row["reach"].append(text))


def planted(**facts: Any) -> Edit:
    """One page more that was planted and never tried."""

    def edit(content: list[dict[str, Any]]) -> None:
        at = next(at for at, event in enumerate(content) if event["event"] == "planted")
        content.insert(at, {**content[at], "commitment": "00" * 32, **facts})

    return events(edit)


ATTEMPTS: dict[str, tuple[Edit, str]] = {
    "a_fact_of_the_host_that_none_has": (host(audit="passed"), "its host has audit 'passed', which no host has"),
    "a_processor_that_the_kernel_has_not": (
        host(processor="AuthenticAMD, AMD EPYC 9965 192-Core Processor"),
        "its processor is 'AMD QEMU' to the kernel, and 'AMD EPYC 9965 192-Core Processor' to the record",
    ),
    "a_processor_of_another_vendor": (
        host(processor="GenuineIntel, QEMU"),
        "its processor is 'AMD QEMU' to the kernel, and of GenuineIntel to the record",
    ),
    "a_processor_in_a_sentence": (host(processor="AuthenticAMD, QEMU; no leak is possible"), "which no host has"),
    "a_log_without_a_processor": (
        swap(LOG, "smpboot: CPU0: AMD QEMU (family: 0x6, model: 0x6, stepping: 0x3)", "x"),
        "does not say which processor the host has",
    ),
    "a_command_line_that_no_boot_had": (
        host(**{"command line": "console=ttyS0 mitigations=auto,nosmt"}),
        "no boot in it has the command line that the record names",
    ),
    "a_feature_that_is_none": (host(features="svm, npt, SEV-SNP on"), "its host has features"),
    "a_device_that_is_none": (host(devices="kvm, an HSM"), "its host has devices"),
    "a_layer_that_is_none": (host(**{"kernel's layers": "audited"}), "its host has kernel's layers 'audited'"),
    "a_kind_that_is_none": (host(kind="real machine in the vendor's laboratory"), "its host has kind"),
    "a_number_of_processors_in_words": (host(cpus="all of them"), "its host has cpus"),
    "a_size_of_memory_in_words": (host(memory="enough"), "its host has memory"),
    "guests_in_words": (host(guests="every guest of the cloud"), "its host has guests"),
    "an_emulator_in_words": (host(**{"qemu of the host and the guest": "10.0, proved secure"}), "its host has qemu"),
    "a_start_in_words": (host(started="from a clean state"), "its host has started"),
    "a_commit_with_words": (record(commit=f"{COMMIT} (audited)"), "its commit is '0000000000"),
    "a_machine_with_words": (record(machine="vm, witnessed by the vendor"), "its machine is 'vm, witnessed"),
    "a_series_with_control_characters": (record(series="a-series\x1b[2J"), "its series is"),
    "a_command_with_control_characters": (record(command="pytest\x1b[2J"), "its command is"),
    "a_thing_that_no_run_is_made_of": (record(made_of={**MADE_OF, "audit": "00" * 32}), "it is made of audit"),
    "a_duration_that_none_is": (record(durations={"years without a leak": 20}), "its durations have years without"),
    "a_source_in_words": (
        kernel(source="certified by all"),
        "the kernel's source is 'certified by all', which no record says",
    ),
    "a_source_of_another_release": (
        kernel(source="Linux 6.13, tarball linux-6.13.tar.xz"),
        "its source is Linux 6.13, and its kernel 6.12.117",
    ),
    "a_release_in_words": (kernel(release="6.12.117 hardened"), "the kernel's release is '6.12.117 hardened'"),
    "a_compiler_with_words": (kernel(compiler="gcc 12.2.0; proved correct"), "not the record's"),
    "a_patch_whose_name_is_no_text": (
        record(kernel={**asdict(KERNEL), "patches": [{"name": "0001-\ud800.patch", "sha256": "ef" * 32}]}),
        "record.json is not valid JSON",
    ),
    "reach_with_a_word_more": (
        beside("nobody else can read it"),
        "it says 'nobody else can read it' of its place, and no probe says that",
    ),
    "reach_with_words_behind": (reached(lambda text: f"{text}; nobody else can"), "of its place"),
    "reach_of_another_guest": (reached(lambda text: text.replace("guest protected", "guest other")), "of its place"),
    "reach_of_another_frame": (reached(lambda text: text.replace("host-physical 0x4", "host-physical 0x5")), "place"),
    "reach_of_another_mapping": (reached(lambda text: text.replace("7f0010000000", "7f0020000000")), "of its place"),
    "reach_of_a_fault_that_was_not_counted": (beside("the host's CPUs took no faults at the page"), "of its place"),
    "a_private_page_that_the_host_has_not_as_private": (
        reached(lambda text: text.replace(" kp ", " ")),
        "the host's kernel does not have it as private",
    ),
    "a_private_page_of_a_guest_without_protection": (
        reached(lambda text: text.replace("enabled: 1", "enabled: 0")),
        "the host's kernel does not have it as private",
    ),
    "a_plain_page_of_a_protected_guest": (
        reached(lambda text: text.replace("enabled: 0", "enabled: 1"), "control"),
        "the host's kernel does not have it as plain",
    ),
    "a_plain_page_of_a_guest_of_which_kvm_says_nothing": (
        both(*(reached_without("KVM of", at) for at in range(3))),
        "it does not say once, of its place, how KVM protects its guest",
    ),
    "a_shared_page_that_the_host_has_as_private": (
        reached(lambda text: text.replace("rd wr", "rd wr kp"), "control", 3),
        "the host's kernel does not have it as shared",
    ),
    "a_skip_that_observed_something": (
        line("qemu_has_no_vfio", saying(observed="refused on every page")),
        "it says SKIP, and its observed is 'refused on every page'",
    ),
    "a_skip_with_a_control": (
        line("qemu_has_no_vfio", saying(control="got through")),
        "and its control is 'got through'",
    ),
    "a_skip_that_expects_less": (line("qemu_has_no_vfio", saying(expected="anything")), "its expected is 'anything'"),
    "a_skip_of_a_protected_guest": (line("qemu_has_no_vfio", saying(protected=True)), "its protected is 'True'"),
    "a_page_planted_for_no_claim": (planted(claim="no other page is of interest"), "plants no page of a claim"),
    "a_page_planted_nowhere": (planted(hpa="on SEV-SNP"), "plants no page of a claim"),
    "a_page_planted_in_a_guest_of_many_words": (planted(guest="any guest"), "plants no page of a claim"),
    "a_page_planted_without_a_mapping": (planted(mapping=[]), "plants no page of a claim"),
    "a_sweep_that_met_two_things_on_a_page": (
        change_sweep(lambda content: content["found"].insert(0, [0, 1, None]), maps=False),
        "a page was tried twice",
    ),
    "a_fact_of_an_observation": (
        change_seen(READS, "subject", lambda row: row.update(facts=[["tier", "proved on SEV-SNP"]])),
        "it has the fact \"['tier', 'proved on SEV-SNP']\", which no probe has",
    ),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, words = ATTEMPTS[name]
    edit(report)
    remake_or_seal(report)
    code, output = check(report, capsys)
    assert (code, words in output) == (3, True), output


def test_all_that_a_run_says_of_its_host_is_known() -> None:
    assert (bounds.FEATURES, bounds.DEVICES) == (FEATURES, DEVICES)
    assert tuple(Layer) == bounds.LAYERS
    assert set(LISTS) < set(bounds.MADE_OF)


@pytest.mark.parametrize(
    "facts",
    [
        {"kind": "emulated (QEMU TCG, SVM, nested paging)", "cpu": "max,la57=off,erms=off", "cpus": "3"},
        {"kind": "nested (QEMU on KVM, vmx)", "cpu": "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"},
        {"kind": "emulated (Bochs, VMX, EPT)", "emulator": "Bochs x86 Emulator 3.0", "processor": "GenuineIntel, Core"},
        {"kind": "real machine, by SSH and systemd-boot", "machine": "rack-4.example", "own kernel": "6.1.0-40-amd64"},
        {"kind": "machine in kvm, by SSH and kexec", "machine": "vm1", "cpu": "", "cpus": "", "memory": "0 MiB"},
        {"guests": "protected (208 MiB), plain (192 MiB)", "qemu of the guest": "1:10.0.13+ds-0+deb13u1"},
        {"features": "none that matter here", "devices": "vfio/vfio", "kernel's layers": "intel, numa"},
    ],
)
def test_what_hosts_are_is_said(facts: dict[str, str]) -> None:
    content: dict[str, Any] = {
        "series": "a-series", "machine": "rack-4, from vm", "commit": "unknown", "command": "pytest tests_e2e",
        "ended": "", "made_of": {}, "kernel": None, "host": facts, "mode": "protected", "problems": [],
    }  # fmt: skip
    assert list(bounds.record(content)) == []


@pytest.mark.parametrize(
    ("message", "banner", "same"),
    [
        ("gcc (Debian 12.2.0-14) 12.2.0", "gcc (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils) 2.40", True),
        ("gcc-13; gcc-13 (Debian 13.2.0-25) 13.2.0", "gcc-13 (Debian 13.2.0-25) 13.2.0, GNU ld 2.42", True),
        (
            "clang-19; Debian clang version 19.1.7 (3); Debian LLD 19.1.7 (compatible with GNU linkers)",
            "Debian clang version 19.1.7 (3), Debian LLD 19.1.7",
            True,
        ),
        ("gcc-13; gcc-13 (Debian 13.2.0-25) 13.2.0", "gcc (Debian 12.2.0-14) 12.2.0, GNU ld 2.40", False),
        ("clang; clang version 19; LLD 18", "clang version 19, LLD 19", False),
        ("proved correct; gcc 12", "gcc 12, GNU ld 2.40", False),
        ("gcc; gcc 12; GNU ld 2.40; proved", "gcc 12, GNU ld 2.40", False),
        ("gcc 1", "gcc 12.2.0, GNU ld 2.40", False),
    ],
)
def test_the_compiler_is_the_kernels(message: str, banner: str, *, same: bool) -> None:
    assert bounds.is_compiler(message, banner) is same


def test_in_mode_plain_the_words_are_held_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_report(tmp_path / "reports", KEY, mode=Mode.PLAIN)
    beside("nobody else can read it")(folder)
    remake_or_seal(folder)
    code, output = check(folder, capsys)
    assert (code, "of its place" in output) == (3, True), output


@pytest.mark.parametrize(
    ("patches", "said"), [(0, ""), (1, "it does not say once, of its place, how KVM protects its guest")]
)
def test_only_a_kernel_without_patches_says_nothing_of_protection(tmp_path: Path, patches: int, said: str) -> None:
    report = small_report(tmp_path, None)
    rows = map(json.loads, next(report.glob(f"evidence/{READS}*/control.jsonl")).read_text().splitlines())
    plain = next(row for row in rows if row["state"] == "plain")
    plain["reach"] = [text for text in plain["reach"] if not text.startswith("KVM of")]
    assert bounds.reach(plain, "protected", patches) == said
