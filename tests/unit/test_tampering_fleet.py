# SPDX-License-Identifier: GPL-2.0-or-later
"""Attempts on what surrounds a report: its parts, its archive, what its reader names, the program that verifies it."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import signoff.merge
from common.errors import UserInputError
from common.paths import PROJECT
from signoff.attestation import sign
from signoff.contract import Mode
from signoff.evidence import Evidence
from signoff.keys import PUBLIC_KEY, fingerprint, put_key
from signoff.merge import merge
from signoff.report import write
from signoff.verdict import Status
from tests.unit import fleet_samples, report_samples
from tests.unit.fleet_samples import CLAIMS, FIRST, WELL, part
from tests.unit.report_samples import COMMIT, CONTRACT, KEY, contract_sha256, small_report
from tests.unit.test_tampering import MINE, chain, change_seen, check, record, remake, seal
from verifier.__main__ import main

OTHER = Ed25519PrivateKey.generate()
EVERY = {claim.id: Status.PASS for claim in CLAIMS}
HALF = len(CLAIMS) // 2


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return small_report(tmp_path / "reports", KEY)


def fleet(folder: Path, key: Ed25519PrivateKey = KEY) -> Path:
    """A report of two parts, merged and signed."""
    names = list(EVERY)
    parts = [
        part(folder / "parts", 1, "one", {**dict.fromkeys(names[:HALF], Status.PASS), **WELL}, key=key),
        part(folder / "parts", 2, "two", {**dict.fromkeys(names[HALF:], Status.PASS), **WELL}, key=key),
    ]
    return merge_parts(folder, *parts)


def merge_parts(folder: Path, *parts: Path) -> Path:
    run = merge(dict.fromkeys(parts, 1.0), folder / "reports", command="python -m fleet run")
    put_key(run, KEY)
    write(run)
    sign(run, KEY)
    return run


def check_fleet(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main([str(path), "--key", MINE, "--contract", contract_sha256(fleet_samples.CONTRACT), *words])
    return code, " ".join(capsys.readouterr().out.split())


# --- parts ---


def test_a_merged_report_is_protected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, words = check_fleet(fleet(tmp_path), capsys)
    assert (code, "machine one, two" in words) == (0, True), words


def test_a_part_by_an_unknown_key_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fleet(tmp_path, OTHER)
    code, words = check_fleet(run, capsys)
    assert (code, "a part is signed by the key" in words) == (2, True), words
    assert check_fleet(run, capsys, "--key", fingerprint(OTHER.public_key()))[0] == 0


def keys_of(folder: Path) -> tuple[Path, list[Path]]:
    """A report of two machines, each with a key of its own, and its parts."""
    names = list(EVERY)
    parts = [
        part(folder / "parts", 1, "one", {**dict.fromkeys(names[:HALF], Status.PASS), **WELL}, key=KEY),
        part(folder / "parts", 2, "rack, from two (10.0.0.2:22)", EVERY, key=OTHER),
    ]
    return merge_parts(folder, *parts), parts


THEIRS = fingerprint(OTHER.public_key())


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--part-key", f"two={THEIRS}"], 0, ""),
        (["--part-key", f"two (10.0.0.2:22)={THEIRS}", "--part-key", f"one={MINE}"], 0, "keys of parts"),
        (["--part-key", f"one={THEIRS}"], 3, f"of one is signed by the key {MINE}, not by the machine's"),
        (["--part-key", f"two={MINE}", "--key", THEIRS], 3, f"of two is signed by the key {THEIRS}, not by the"),
        (["--part-key", f"three={THEIRS}"], 2, "a part is signed by the key"),
        (["--part-key", THEIRS], 2, ""),
    ],
)
def test_a_machines_parts_are_by_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, message: str
) -> None:
    code, output = check_fleet(keys_of(tmp_path)[0], capsys, *words)
    assert (code, message in output) == (status, True), output


def test_the_key_of_a_part_signs_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = keys_of(tmp_path)
    put_key(run, OTHER)
    write(run)
    sign(run, OTHER)
    words = ["--key", MINE, "--part-key", f"two={THEIRS}", "--contract", contract_sha256(fleet_samples.CONTRACT)]
    assert main([str(run), *words]) == 3
    assert "which you did not name" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"one": MINE, "two": MINE}, f"is signed by the key {THEIRS}: two's is {MINE}"),
        ({"two": THEIRS}, f"of one is signed by the key {MINE}: the inventory names no key of that machine"),
    ],
)
def test_a_part_by_another_key_than_its_machines_is_not_merged(
    tmp_path: Path, keys: dict[str, str], words: str
) -> None:
    _, parts = keys_of(tmp_path)
    with pytest.raises(UserInputError, match=re.escape(words)):
        merge(dict.fromkeys(parts, 1.0), tmp_path / "again", command="python -m fleet merge", keys=keys)


def test_parts_by_their_machines_keys_are_merged(tmp_path: Path) -> None:
    _, parts = keys_of(tmp_path)
    keys = {"one": MINE, "two": THEIRS}
    assert merge(dict.fromkeys(parts, 1.0), tmp_path / "again", command="python -m fleet merge", keys=keys).is_dir()


def test_a_fail_of_a_killed_part_counts_and_its_reports_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = part(tmp_path / "parts", 1, "one", {FIRST: Status.FAIL}, ended="")
    (cut / "signoff.html").write_text("<script>alert(1)</script>")
    put_key(cut, OTHER)
    run = merge_parts(tmp_path, cut, part(tmp_path / "parts", 2, "two", EVERY, key=KEY))
    assert not {"signoff.html", PUBLIC_KEY} & {file.name for file in (run / "parts" / cut.name).iterdir()}
    code, words = check_fleet(run, capsys)
    assert (code, f"FAIL {FIRST}" in words) == (1, True), words


def whole(folder: Path) -> Path:
    """A part that a forger edits, whose key he has."""
    return part(folder / "parts", 1, "one", EVERY, key=OTHER)


def leak(row: dict[str, Any]) -> None:
    row.update(data=bytes.fromhex(row["data"]).hex() or "00", leaked=4096, got=4096)


PARTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a_fail_taken_away": (lambda f: [(f / "claims.jsonl").write_text("\n".join(
        (f / "claims.jsonl").read_text().splitlines()[1:]) + "\n"), Evidence(f).seal()], "was changed after"),
    "sums_emptied": (lambda f: (f / "SHA256SUMS").write_text(""), "SHA256SUMS was changed after it was signed"),
    "runs_that_leaked": (lambda f: [change_seen(FIRST, "subject", leak)(f), remake(f, OTHER)], "its line differs"),
    "no_signature": (lambda f: (f / "attestation.json").unlink(), "nobody signed it"),
    "another_run_in_it": (lambda f: [record(run="20200101T000000Z-abcdef")(f), remake(f, OTHER)], "another time"),
    "a_name_that_leads_out": (lambda f: [record(run="../../x")(f)], "is not the name of a run"),
    "a_link": (lambda f: (f / "identity" / "x").symlink_to("/etc/passwd"), "identity/x is a link"),
    "a_page_with_a_script": (lambda f: [(f / "signoff.html").write_text("<html><script></script></html>"),
                                        seal(f, OTHER)], "<script></script>"),
    "a_pass_without_evidence": (lambda f: [shutil.rmtree(f / "evidence"), chain(f), seal(f, OTHER)], "evidence"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_forged_part_is_not_merged(tmp_path: Path, name: str) -> None:
    edit, words = PARTS[name]
    folder = whole(tmp_path)
    edit(folder)
    with pytest.raises(UserInputError, match=words.replace("(", "\\(")):
        merge({folder: 1.0}, tmp_path / "reports", command="python -m fleet run")


def test_a_forged_part_within_a_signed_report_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fleet(tmp_path)
    (inner,) = (path for path in (run / "parts").iterdir() if (path / "evidence" / FIRST).is_dir())
    change_seen(FIRST, "subject", leak)(inner)
    remake(inner)
    seal(run)
    code, words = check_fleet(run, capsys)
    assert (code, f"part {inner.name}" in words) == (3, True), words


def kernel_of_nobody(content: dict[str, Any]) -> None:
    content["kernel"]["compiler"] = "gcc 99"


def name_more(content: dict[str, Any]) -> None:
    content["made_of"]["programs"] = "99" * 32


def machines_of_nobody(content: dict[str, Any]) -> None:
    content["host"]["machines"] += ", a machine with SEV-SNP"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (machines_of_nobody, "record.json: its host is"),
        (kernel_of_nobody, "record.json: its kernel is"),
        (name_more, "record.json: its made_of is"),
    ],
)
def test_a_merged_report_is_made_of_what_its_parts_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None], words: str
) -> None:
    run = fleet(tmp_path)
    document = json.loads((run / "record.json").read_text())
    change(document)
    (run / "record.json").write_text(json.dumps(document))
    remake(run)
    code, result = check_fleet(run, capsys)
    assert (code, words in result) == (3, True), result


def first_part(content: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = content["parts"][0]
    return part


MERGED: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "a_machine_of_nobody": ("fleet.json", lambda t: first_part(t).update(machine="SEV-SNP"), "machine of part"),
    "another_tier": ("fleet.json", lambda t: first_part(t).update(tier="bare-metal"), "tier of part"),
    "another_host": ("fleet.json", lambda t: first_part(t)["host"].update(processor="x"), "host of part"),
    "another_end": (
        "fleet.json",
        lambda t: first_part(t).update(cut_short="killed"),
        "cut_short of part",
    ),
    "other_words": ("fleet.json", lambda t: t["words"][FIRST][0].update(why="x"), f"it does not say of {FIRST} what"),
    "words_of_no_claim": (
        "fleet.json",
        lambda t: t["words"].update(x=t["words"][FIRST]),
        "has words on x, which is not in the contract",
    ),
    "other_machines_in_json": (
        "signoff.json",
        lambda t: first_part(t["fleet"]).update(machine="x"),
        "its parts are not",
    ),
    "other_words_in_json": (
        "signoff.json",
        lambda t: t["fleet"]["words"][FIRST].clear(),
        "it does not say what its parts say",
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_what_the_merger_says_of_parts_is_held(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    file, change, words = MERGED[name]
    run = fleet(tmp_path)
    document = json.loads((run / file).read_text())
    change(document)
    (run / file).write_text(json.dumps(document))
    if file == "fleet.json":
        remake(run)
    seal(run)
    code, result = check_fleet(run, capsys)
    assert (code, words in result) == (3, True), result


def test_a_part_that_was_changed_after_the_merge_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fleet(tmp_path)
    part_ = next((run / "parts").iterdir())
    remake(part_)  # as good as it was, and not what the journal has
    (run / "journal.jsonl").write_text((run / "journal.jsonl").read_text().replace('"sums":"', '"sums":"00'))
    remake(run)
    code, result = check_fleet(run, capsys)
    assert (code, "the journal has other parts than those that are there" in result) == (3, True), result


def alike(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two parts whose guests have the same canaries."""
    parts = []
    for number in range(2):
        keys = (hashlib.sha256(b"%d" % count).digest() for count in itertools.count())
        monkeypatch.setattr(report_samples.secrets, "token_bytes", lambda size, keys=keys: next(keys)[:size])
        parts.append(part(folder / "parts", number, f"m{number}", EVERY, key=KEY))
    return parts


def test_parts_that_have_a_page_in_common_are_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserInputError, match="have a canary in common"):
        merge_parts(tmp_path, *alike(tmp_path, monkeypatch))


def test_a_page_that_two_parts_have_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signoff.merge, "_no_page_twice", lambda _: None)
    run = merge_parts(tmp_path, *alike(tmp_path, monkeypatch))
    code, result = check_fleet(run, capsys)
    assert (code, "has a page of part" in result) == (3, True), result


def test_a_nonce_that_two_parts_have_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (part(tmp_path / "parts", number, f"m{number}", EVERY, key=KEY) for number in range(2))
    nonces = [json.loads((folder / "journal.jsonl").read_text().splitlines()[0])["nonce"] for folder in (first, second)]
    path = second / "journal.jsonl"
    path.write_text(path.read_text().replace(nonces[1], nonces[0]))
    remake(second)
    code, result = check_fleet(merge_parts(tmp_path, first, second), capsys)
    assert (code, "has the nonce of part" in result) == (3, True), result


def test_a_fail_counts_though_its_part_says_that_it_did_not_try(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.test_tampering import line, saying  # noqa: PLC0415

    bad = part(tmp_path / "parts", 1, "one", {FIRST: Status.FAIL, **WELL}, key=KEY)
    line(FIRST, saying(command=""))(bad)
    remake(bad)
    run = merge_parts(tmp_path, bad, part(tmp_path / "parts", 2, "two", EVERY, key=KEY))
    code, result = check_fleet(run, capsys)
    assert (code, "evidence says NOT PROTECTED" in result) == (3, True), result


@pytest.mark.parametrize("commit", ["0" * 40 + "-dirty", "unknown"])
def test_parts_of_a_tree_that_nobody_can_name_prove_nothing(tmp_path: Path, commit: str) -> None:
    parts = [part(tmp_path / "parts", number, f"m{number}", EVERY, commit=commit) for number in range(2)]
    report = write(merge(dict.fromkeys(parts, 1.0), tmp_path / "reports", command="python -m fleet run"))
    assert report.overall.exit_code == 2
    assert "it is unknown whether all parts ran the same probes" in report.overall.sentence


# --- archives ---


def pack(folder: Path, path: Path, change: Callable[[tarfile.TarFile], object] = lambda _: None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
        change(archive)
    return path


def member(name: str, **facts: Any) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        for field, value in facts.items():
            setattr(info, field, value)
        archive.addfile(info, io.BytesIO(bytes(info.size)))

    return add


def test_an_archive_is_as_good_as_the_folder(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(pack(report, tmp_path / "r.tar.gz"), capsys)[0] == 0
    plain = shutil.make_archive(str(tmp_path / "flat"), "zip", report)
    assert check(Path(plain), capsys)[0] == 0


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (member("RUN/x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        (member("RUN/x", type=tarfile.LNKTYPE, linkname="RUN/record.json"), "is a link or a special file"),
        (member("RUN/x", type=tarfile.FIFOTYPE), "is a link or a special file"),
        (member("RUN/x", type=tarfile.CHRTYPE), "is a link or a special file"),
        (member("../x"), "leads out of the report"),
        (member("/etc/x"), "leads out of the report"),
        (member("RUN/../../x"), "leads out of the report"),
        (member("RUN/a\\b"), "leads out of the report"),
        (member("RUN/a\nb"), "is not a plain name"),
        (member("RUN/" + "a" * 500), "is not a plain name"),
        (member("RUN/record.json"), "is in the archive twice"),
        (member("another/x"), "is not one report's folder"),
        (member("RUN/zeros", size=300 << 20), "unpacks to too much"),
    ],
)
def test_an_archive_that_is_none_of_a_report(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], add: Callable[[tarfile.TarFile], None], words: str
) -> None:
    def change(archive: tarfile.TarFile) -> None:
        class Renamed:
            def addfile(self, info: tarfile.TarInfo, data: io.BytesIO) -> None:
                info.name = info.name.replace("RUN", report.name)
                info.linkname = info.linkname.replace("RUN", report.name)
                archive.addfile(info, data)

        add(Renamed())

    code, output = check(pack(report, tmp_path / "r.tar.gz", change), capsys)
    assert (code, words in output) == (3, True), output


def test_a_torn_archive_and_no_archive_are_refused(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pack(report, tmp_path / "r.tar.gz")
    path.write_bytes(path.read_bytes()[:5000])
    assert check(path, capsys)[0] == 3
    path.write_bytes(b"no archive")
    assert check(path, capsys)[0] == 3
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil", "x")
    assert check(tmp_path / "evil.zip", capsys)[0] == 3
    assert check(tmp_path / "nothing", capsys)[0] == 2


# --- what the reader names ---


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--commit", COMMIT], 0, "sealproof's commit: as you named them"),
        (["--commit", "1" * 40], 3, "sealproof's commit is " + COMMIT),
        (["--series", "0" * 64], 3, "series is "),
        (["--source", "5a" * 32], 0, "kernel source: as you named them"),
        (["--source", "f" * 64], 3, "kernel source is " + "5a" * 32),
        (["--oldest", "2100-01-01"], 3, "too long ago for you"),
        (["--oldest", "2020-01-01", "--youngest", "2100-01-01"], 0, "day: as you named them"),
        (["--youngest", "2020-01-01"], 3, "after the last day that you name"),
    ],
)
def test_what_the_reader_trusts_is_held(
    report: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    result, text = check(report, capsys, *words)
    assert (result, message in text) == (code, True), text


def test_without_a_key_or_a_contract_nothing_is_proven(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(report), "--contract", contract_sha256()]) == 2
    assert "no key was named" in capsys.readouterr().out
    assert main([str(report), "--key", MINE]) == 2
    assert "no contract was named" in capsys.readouterr().out
    assert main([str(report), "--key", MINE, "--contract", "0" * 64]) == 3
    assert "not the one that you trust" in " ".join(capsys.readouterr().out.split())
    assert main([str(report), "--key", "nonsense"]) == 2


def test_keys_and_contracts_may_be_files(report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT)
    private = tmp_path / "key.pem"
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = tmp_path / "key.pub"
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for key in (private, public):
        assert main([str(report), "--key", str(key), "--contract", str(contract)]) == 0
    assert main([str(report), "--key", str(contract), "--contract", str(contract)]) == 2
    capsys.readouterr()


def test_weak_contracts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A contract of one claim, and one of claims that are all skipped."""
    weak = f"version = 2\n[[claim]]{CONTRACT.split('[[claim]]')[1]}"
    report = small_report(tmp_path / "one", KEY, contract=weak)
    assert main([str(report), "--key", MINE, "--contract", contract_sha256(weak)]) == 2
    assert "no claim about the whole run" in " ".join(capsys.readouterr().out.split())
    head, *claims = CONTRACT.split("[[claim]]")
    skipped = "[[claim]]".join([head, *(
        text.replace('\nkind = "attack"', '\nskip = { when = "no-vfio" }\nkind = "attack"')
        if "skip =" not in text and number else text for number, text in enumerate(claims)
    )])  # fmt: skip
    report = small_report(tmp_path / "skipped", KEY, contract=skipped)
    assert json.loads((report / "signoff.json").read_text())["verdict"] == "NOT PROVEN"
    assert main([str(report), "--key", MINE, "--contract", contract_sha256(skipped)]) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"mode": Mode.PLAIN}, 2),
        ({"statuses": {"host_cannot_read": Status.FAIL}}, 1),
        ({"statuses": {"guest_works": Status.FAIL}}, 1),
        ({"statuses": {"guest_works": Status.ERROR}}, 2),
        ({"statuses": {"host_kernel_stays_healthy": Status.MISS}}, 2),
        ({"statuses": {"host_cannot_read": Status.SKIP}}, 2),
        ({"problems": ("not a sign-off: the pytest plugin x is not the project's",)}, 2),
        ({"given_up": "no disk"}, 2),
    ],
)
def test_an_honest_report_has_its_own_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], code: int
) -> None:
    result, words = check(small_report(tmp_path, KEY, **change), capsys)
    assert result == code, words


def test_a_plain_run_passes_no_claim_about_protection_anywhere(tmp_path: Path) -> None:
    report = small_report(tmp_path, KEY, mode=Mode.PLAIN)
    junit = (report / "junit.xml").read_text()
    assert junit.count('type="CONTROL"') == 5 + 1  # and the whole run
    assert "controls, no sign-off" in junit
    from tests.unit.test_tampering import payload  # noqa: PLC0415

    content: dict[str, Any] = {}
    payload(content.update)(report)
    assert (content["predicate"]["result"], content["predicate"]["passedTests"]) == ("WARNED", [])


# --- the program ---


def test_it_runs_alone_and_shares_no_code(report: Path, tmp_path: Path) -> None:
    """A copy of the folder, and a Python that finds nothing else of this project."""
    shutil.copytree(PROJECT / "verifier", tmp_path / "alone" / "verifier", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'verifier'\n"
        "try:\n    runpy.run_module('verifier', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        "    ours = {'signoff', 'common', 'fleet', 'host_setup', 'pytest', 'pydantic', 'jinja2', 'tests'}\n"
        "    print(sorted(ours & {name.partition('.')[0] for name in sys.modules}))"
    )
    words = [str(report), "--key", MINE, "--contract", contract_sha256()]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path / "alone", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stdout + done.stderr
    assert len(done.stdout.splitlines()) < 40
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_control_characters_of_a_kernel_reach_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
    report = small_report(tmp_path, KEY, host={"devices": "kvm", "processor": evil}, machine=evil, series=evil)
    result, words = check(report, capsys)
    page = (report / "signoff.html").read_text()
    assert (result, "its host has processor" in words) == (3, True), words
    for text in (words, page, (report / "junit.xml").read_text()):
        assert not {letter for letter in text if not letter.isprintable()} - {"\n", "\t"}
