# SPDX-License-Identifier: GPL-2.0-or-later
"""Outcomes that differ by kernel, vendor and accelerator: which ones judge and verifier take, and attempts at them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserInputError
from signoff.attestation import sign
from signoff.contract import Mode, ProbeClaim
from signoff.contract_files import load
from signoff.evidence import Evidence
from signoff.host_facts import HostFacts
from signoff.keys import put_key
from signoff.merge import merge
from signoff.observation import Page, State
from signoff.report import write
from signoff.trial import Trial
from signoff.verdict import Status, describe
from tests.unit.report_samples import CONTRACT, HOST, KERNEL, KEY, contract_sha256, small_report
from tests.unit.test_tampering import MINE, Edit, both, change_seen, line, record, remake, remake_or_seal, saying
from verifier import contract as verifiers
from verifier import rows
from verifier.__main__ import main
from verifier.text import UnsoundError

CLAIM = """version = 2
[[claim]]
id = "host_cannot_read"
kind = "attack"
class = "kernel-gup"
source = "mm/gup.c"
reason = "It is refused where secretmem is."
plain = { returned = 4096, leak = "page" }
protected = { returned = -1, errno = "EFAULT", leak = "none" }
"""
NEWER = """[[claim.on]]
kernel = ">=6.12.100"
source = "Linux 6.12.100: mm/gup.c"
reason = "It says so otherwise."
protected = { returned = -1, errno = "EPERM", leak = "none" }
"""


def on(**fields: str) -> str:
    """A row, by default of another errno."""
    stated = {
        "source": '"s"', "reason": '"r"', "protected": '{ returned = -1, errno = "EIO", leak = "none" }', **fields
    }  # fmt: skip
    return "[[claim.on]]\n" + "".join(f"{name} = {value}\n" for name, value in stated.items() if value)


THREE = CLAIM + NEWER.replace(">=6.12.100", ">=6.16, < 7") + on(vendor='"intel"', kernel='"<6.16"') + on(
    accelerator='"none"', kernel='">=7"', protected="", plain='{ returned = 512, leak = 512 }'
)  # fmt: skip


@pytest.mark.parametrize(
    ("release", "vendor", "tier", "row", "private", "plain"),
    [
        ("6.12.117", "AuthenticAMD, EPYC", "emulated", "", "EFAULT", 4096),
        ("6.16.0-rc1", "AuthenticAMD, EPYC", "emulated", "kernel >=6.16,<7", "EPERM", 4096),
        ("6.15.9", "GenuineIntel, Xeon", "bare-metal", "kernel <6.16, vendor intel", "EIO", 4096),
        ("6.16.1", "GenuineIntel, Xeon", "bare-metal", "kernel >=6.16,<7", "EPERM", 4096),
        ("7.0.1", "GenuineIntel, Xeon", "bare-metal", "kernel >=7, accelerator none", "EFAULT", 512),
        ("7.0.1", "GenuineIntel, Xeon", "nested", "", "EFAULT", 4096),
        ("6.15.9", "HygonGenuine, C86", "bare-metal", "", "EFAULT", 4096),
        ("unknown", "GenuineIntel, Xeon", "bare-metal", "", "EFAULT", 4096),
        (None, "GenuineIntel, Xeon", None, "", "EFAULT", 4096),
        ("6.15.9", None, "emulated", "", "EFAULT", 4096),
    ],
)
def test_judge_and_verifier_take_the_same_row(
    tmp_path: Path, release: str | None, vendor: str | None, tier: str | None, row: str, private: str, plain: int
) -> None:
    (tmp_path / "contract.toml").write_text(THREE)
    host = {} if vendor is None else {"processor": vendor}
    (ours,) = load(tmp_path).claims
    assert ours.row(HostFacts.of(release, tier, host)) == row
    ours = ours.by(row)
    assert isinstance(ours, ProbeClaim)
    assert (ours.outcome(State.PRIVATE).errno, ours.outcome(State.SHARED).leaked) == (private, plain)
    kernel = None if release is None else {"release": release}
    theirs = verifiers.load(verifiers.at(tmp_path))["host_cannot_read"].at(
        rows.facts({"kernel": kernel, "tier": tier, "host": host})
    )
    assert (theirs.row, theirs.source, theirs.why) == (row, ours.source, ours.why)
    assert ours.why.endswith(f"This is the outcome for {row}." if row else "where secretmem is.")
    assert [theirs.by_state[state].words for state in State] == [describe(ours.outcome(state)) for state in State]
    with pytest.raises(ValueError, match="has no outcome for 'kernel >=1'"):
        ours.by("kernel >=1")


@pytest.mark.parametrize(("release", "fits"), [("6.14.9", True), ("6.15.0-rc1", False), ("7.3.4", False), ("", False)])
def test_a_test_is_told_whether_the_kernel_is_in_a_range(tmp_path: Path, release: str, *, fits: bool) -> None:
    (tmp_path / "contract.toml").write_text(CLAIM)
    (claim,) = load(tmp_path).claims
    facts = HostFacts.of(release, None, {})
    trial = Trial(claim, Mode.PLAIN, "", "", Evidence(tmp_path), host=lambda: facts)
    assert trial.kernel_fits("<6.15") is fits
    with pytest.raises(ValueError, match="not a version range"):
        trial.kernel_fits("6.15")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (on(kernel='">=6.16"') + on(kernel='"<6.17"'), "kernel >=6.16 and kernel <6.17 overlap"),
        (on(kernel='">=6.16"') + on(vendor='"amd"'), "kernel >=6.16 and vendor amd overlap"),
        (on(vendor='"amd"') + on(accelerator='"kvm"'), "overlap: some host fits both"),
        (on(vendor='"amd"') * 2, "overlap: some host fits both"),
        (on(kernel='">=6.16,<6.15"'), "no release lies in >=6.16,<6.15"),
        (on(kernel='"6.16"'), "not a version range"),
        (on(kernel='"==6.*"'), "not a version range"),
        (on(kernel="6.16"), "valid string"),
        (on(vendor='"via"'), "vendor: Input should be"),
        (on(accelerator='"hvf"'), "accelerator: Input should be"),
        (on(), "state for which hosts it is"),
        (on(vendor='"amd"', protected=""), "state which outcome differs"),
        (on(vendor='"amd"', source=""), "source: Field required"),
        (on(vendor='"amd"', reason='""'), "reason: String should have at least 1"),
        (on(vendor='"amd"', skip='{ when = "no-vfio" }'), "skip: Extra inputs"),
        (on(vendor='"amd"', protected='{ returned = 4096, leak = "page" }'), "on: vendor amd: protected: an attack"),
        (on(vendor='"amd"', plain='{ returned = 4096, leak = "none" }'), "on: vendor amd: plain: a control must leak"),
        (on(vendor='"amd"', shared='{ returned = 2, leak = 2 }'), "on: vendor amd: shared: a control must leak 4"),
        (on(vendor='"amd"', protected='{ returned = -1, leak = "none" }'), "state which"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_told_apart_or_prove_nothing_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "contract.toml").write_text(CLAIM + text)
    with pytest.raises(UserInputError, match=re.escape(words)):
        load(tmp_path)
    with pytest.raises(UnsoundError):
        verifiers.load(verifiers.at(tmp_path))


def test_rows_that_no_host_has_both_of_do_not_overlap(tmp_path: Path) -> None:
    text = on(vendor='"amd"') + on(vendor='"intel"', accelerator='"kvm"') + on(vendor='"intel"', accelerator='"tcg"')
    (tmp_path / "contract.toml").write_text(CLAIM + text)
    assert len(load(tmp_path).claims) == len(verifiers.load(verifiers.at(tmp_path))) == 1


def test_only_probes_have_rows(tmp_path: Path) -> None:
    text = CLAIM.partition("plain")[0].replace("attack", "oracle") + on(vendor='"amd"')
    (tmp_path / "contract.toml").write_text(text)
    with pytest.raises(UserInputError, match="on: Extra inputs"):
        load(tmp_path)
    with pytest.raises(UnsoundError):
        verifiers.load(verifiers.at(tmp_path))


# --- reports ---


ROWS = CONTRACT.replace('errno = "EFAULT", leak = "none" }\n', 'errno = "EFAULT", leak = "none" }\n' + NEWER, 1)
ROW = "kernel >=6.12.100"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_report(tmp_path_factory.mktemp("rows") / "reports", KEY, contract=ROWS)


def check(path: Path, capsys: pytest.CaptureFixture[str], contract: str = ROWS) -> tuple[int, str]:
    code = main([str(path), "--key", MINE, "--contract", contract_sha256(contract)])
    return code, " ".join(capsys.readouterr().out.split())


def of(folder: Path) -> dict[str, Any]:
    """What the report says of the claim with rows."""
    document = json.loads((folder / "signoff.json").read_text())
    return next(dict(row) for row in document["claims"] if row["id"] == "host_cannot_read")


def test_a_report_says_which_row_was_used(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = of(original)
    assert (claim["status"], claim["row"]) == ("PASS", ROW)
    assert claim["expected"] == "returned -1 EPERM, nothing leaked"
    assert claim["source"] == "Linux 6.12.100: mm/gup.c"
    assert f"This is the outcome for {ROW}." in claim["reason"]
    assert "This is the outcome for kernel &gt;=6.12.100." in (original / "signoff.html").read_text()
    assert check(original, capsys)[0] == 0
    others = [row for row in json.loads((original / "signoff.json").read_text())["claims"] if row["id"] != claim["id"]]
    assert {row["row"] for row in others} == {""}


def test_an_older_kernel_is_judged_by_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_report(tmp_path / "reports", KEY, contract=ROWS.replace(">=6.12.100", ">=6.16"))
    assert (of(folder)["row"], of(folder)["expected"]) == ("", "returned -1 EFAULT, nothing leaked")
    assert check(folder, capsys, ROWS.replace(">=6.12.100", ">=6.16"))[0] == 0


def test_a_row_counts_against_the_host_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was right by the default is FAIL where a row says otherwise."""

    def as_before(claim: str, role: str, facts: dict[str, Any]) -> dict[str, Any]:
        return {**facts, "errno": "EFAULT"} if (claim, role) == ("host_cannot_read", "subject") else facts

    folder = small_report(tmp_path / "reports", KEY, contract=ROWS, change=as_before)
    assert (of(folder)["status"], of(folder)["row"]) == ("FAIL", ROW)
    assert check(folder, capsys)[0] == 1


def test_what_was_not_tried_may_be_of_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_report(tmp_path / "reports", KEY, contract=ROWS, statuses={"host_cannot_read": Status.MISS})
    line("host_cannot_read", saying(row="", expected="returned -1 EFAULT, nothing leaked"))(folder)
    remake(folder)
    assert (of(folder)["status"], of(folder)["row"]) == ("MISS", "")
    assert check(folder, capsys)[0] == 2


def kernel(release: str) -> Edit:
    """Claim another kernel, in the record and in its configuration."""

    def edit(folder: Path) -> None:
        file = folder / "identity/kernel.config"
        file.write_text(file.read_text().replace("6.12.117", release))
        fields = dataclasses.asdict(KERNEL) | {"release": release, "config_sha256": digest(file)}
        record(kernel=fields)(folder)

    return edit


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def every(errno: str) -> Edit:
    """Say of each probe that it was refused in another way, in evidence and line."""
    edits = [change_seen("host_cannot_read", "subject", saying(errno=errno), at) for at, _ in enumerate(Page)]

    def edit(folder: Path) -> None:
        for edit in edits:
            edit(folder)

    return edit


def change_contract(change: Callable[[str], str]) -> Edit:
    """Change the contract."""
    return lambda folder: (folder / "contract/contract.toml").write_text(change(ROWS))


DEFAULT = saying(row="", expected="returned -1 EFAULT, nothing leaked")
JUDGED = "its outcome on this host is the default, and it was judged by that for kernel >=6.12.100"
ATTEMPTS: dict[str, tuple[Edit, int, str]] = {
    "another_release": (record(kernel=dataclasses.asdict(KERNEL) | {"release": "6.12.50"}), 3, JUDGED),
    "another_release_than_its_configuration": (
        record(kernel=dataclasses.asdict(KERNEL) | {"release": "6.12.11"}),
        3,
        "identity/kernel.config is of Linux 6.12.117, and the record's kernel of 6.12.11",
    ),
    "another_release_and_configuration": (kernel("6.12.50"), 3, JUDGED),
    # Whoever makes all of that up still has what the probe met.
    "another_release_and_row": (
        both(kernel("6.12.50"), line("host_cannot_read", DEFAULT)),
        3,
        "returned -1 EPERM, nothing leaked, and the contract says returned -1 EFAULT",
    ),
    "another_row": (
        line("host_cannot_read", DEFAULT),
        3,
        f"its outcome on this host is that for {ROW}, and it was judged by the default",
    ),
    "another_row_and_another_outcome": (
        both(line("host_cannot_read", DEFAULT), every("EFAULT")),
        3,
        f"its outcome on this host is that for {ROW}, and it was judged by the default",
    ),
    "a_configuration_of_no_release": (
        lambda folder: (
            (folder / "identity/kernel.config").write_text("CONFIG_KVM=y\n"),
            record(
                kernel=dataclasses.asdict(KERNEL) | {"config_sha256": digest(folder / "identity/kernel.config")}
            )(folder),
        ),
        3,
        "identity/kernel.config is of Linux no release",
    ),
    "a_contract_whose_rows_overlap": (
        change_contract(lambda text: text.replace(NEWER, NEWER + NEWER.replace(">=6.12.100", "<6.13"))),
        3,
        "kernel >=6.12.100 and kernel <6.13 overlap",
    ),
    "a_contract_with_another_row": (
        change_contract(lambda text: text.replace(">=6.12.100", ">=6.12.101")),
        3,
        "host_cannot_read has no outcome for 'kernel >=6.12.100'",
    ),
    "a_line_of_a_row_that_there_is_not": (
        line("host_cannot_read", saying(row="vendor intel")),
        3,
        "host_cannot_read has no outcome for 'vendor intel'",
    ),
    "a_claim_without_rows_that_has_one": (
        line("host_cannot_write", saying(row=ROW)),
        3,
        f"host_cannot_write has no outcome for '{ROW}'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(report: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    edit, expected, words = ATTEMPTS[name]
    edit(report)
    remake_or_seal(report)
    code, text = check(report, capsys)
    assert (code, words in text) == (expected, True), text


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ('vendor = "amd"', {"host": {**HOST, "processor": "GenuineIntel, QEMU"}}),
        ('vendor = "amd"', {"host": {name: HOST[name] for name in HOST if name != "processor"}}),
        ('accelerator = "tcg"', {"tier": "bare-metal"}),
        ('accelerator = "tcg"\nvendor = "amd"', {"tier": "nested"}),
        ('accelerator = "tcg"', {"host": {**HOST, "emulator": "Bochs x86 Emulator 2.7"}}),
    ],
)
def test_another_vendor_or_accelerator_is_another_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fact: str, changes: dict[str, Any]
) -> None:
    contract = ROWS.replace('kernel = ">=6.12.100"', fact)
    folder = small_report(tmp_path / "reports", KEY, contract=contract)
    assert of(folder)["row"]
    assert check(folder, capsys, contract)[0] == 0
    record(**changes)(folder)
    remake(folder)
    code, text = check(folder, capsys, contract)
    assert (code, "its outcome on this host is the default, and it was judged by that for" in text) == (3, True), text


def two_vendors(folder: Path) -> Path:
    """A merged report: one part's host is AMD's and has a row, the other's is Intel's and has the default."""
    intel = {**HOST, "processor": "GenuineIntel, QEMU"}
    contract = ROWS.replace('kernel = ">=6.12.100"', 'vendor = "amd"')
    parts = [
        small_report(folder / "parts", KEY, contract=contract, machine=name, host=host)
        for name, host in (("amd", HOST), ("intel", intel))
    ]
    run = merge(dict.fromkeys(parts, 1.0), folder / "reports", command="python -m fleet run")
    put_key(run, KEY)
    write(run)
    sign(run, KEY)
    return run


def test_each_part_of_a_merged_report_has_its_own_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = two_vendors(tmp_path)
    contract = ROWS.replace('kernel = ">=6.12.100"', 'vendor = "amd"')
    assert of(run)["row"] == "vendor amd"
    parts = {of(part)["row"]: of(part)["expected"].split()[2] for part in (run / "parts").iterdir()}
    assert parts == {"vendor amd": "EPERM,", "": "EFAULT,"}
    assert check(run, capsys, contract)[0] == 0
    line("host_cannot_read", saying(row=""))(run)
    remake(run)
    code, text = check(run, capsys, contract)
    assert (code, "its runs and the outcome that they are held against are of different parts" in text) == (3, True)
