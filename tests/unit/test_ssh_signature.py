# SPDX-License-Identifier: GPL-2.0-or-later
"""A report signed by an SSH key as well, by the real ``ssh-keygen``, and what becomes of attempts on that."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from common.errors import UserInputError
from signoff import ssh
from signoff.__main__ import main as signoff_main
from signoff.keys import own_key
from tests.unit.report_samples import contract_sha256, small_report
from verifier.__main__ import main

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
KINDS = {"ed25519": (), "ecdsa": ("-b", "384"), "rsa": ("-b", "2048")}
SIGNATURE = "attestation.json.sig"


def keygen(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *words], input=stdin, capture_output=True, check=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ssh")
    for kind, more in KINDS.items():
        keygen("-q", "-t", kind, *more, "-N", "", "-C", "x", "-f", str(folder / kind))
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    return small_report(folder / "reports", own_key(folder / "config" / "sealproof"))


@pytest.fixture
def report(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / original.name))


def check(report: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main([str(report), "--contract", contract_sha256(), *words])
    return code, " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_the_reader_knows_vouches_for_the_report(
    report: Path, keys: dict[str, Path], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    key = keys[kind]
    ssh.sign(report, key)
    code, text = check(report, capsys, "--ssh-key", f"{key}.pub")
    assert (code, "signer's SSH key, contract: as you named them" in text) == (0, True), text
    shown = keygen("-l", "-f", f"{key}.pub").stdout.decode().split()[1]
    assert f"and by the SSH key {shown}" in text
    assert check(report, capsys, "--ssh-key", shown)[0] == 0


def test_openssh_itself_takes_the_signature(report: Path, keys: dict[str, Path], tmp_path: Path) -> None:
    ssh.sign(report, keys["ed25519"])
    signers = tmp_path / "allowed"
    signers.write_text(f"me {keys['ed25519'].with_suffix('.pub').read_text()}")
    words = ("-Y", "verify", "-f", str(signers), "-I", "me", "-n", "sealproof", "-s", str(report / SIGNATURE))
    assert b"Good" in keygen(*words, stdin=(report / "attestation.json").read_bytes()).stdout


def test_without_that_key_named_the_signature_vouches_for_nothing(
    report: Path, keys: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ssh.sign(report, keys["ed25519"])
    code, text = check(report, capsys)
    assert (code, "no key was named" in text) == (2, True), text


def test_a_report_that_the_named_key_did_not_sign_is_refused(
    report: Path, keys: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check(report, capsys, "--ssh-key", f"{keys['rsa']}.pub")
    assert (code, "it is signed by no SSH key, not by" in text) == (3, True), text
    ssh.sign(report, keys["ed25519"])
    code, text = check(report, capsys, "--ssh-key", f"{keys['rsa']}.pub")
    assert (code, "not by the SSH key that you named" in text) == (3, True), text


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_of_something_else_is_refused_also_if_nobody_asks(
    report: Path, keys: dict[str, Path], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    other = report.parent / "other"
    shutil.copytree(report, other)
    (other / "attestation.json").write_text("another")
    ssh.sign(other, keys[kind])
    shutil.copy(other / SIGNATURE, report / SIGNATURE)
    code, text = check(report, capsys)
    assert (code, f"the SSH signature {SIGNATURE} is not valid" in text) == (3, True), text


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"]
)
def test_what_is_no_signature_is_refused(report: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (report / SIGNATURE).write_bytes(content)
    code, text = check(report, capsys)
    assert (code, "is not valid" in text) == (3, True), text


def test_a_signature_for_another_purpose_is_refused(
    report: Path, keys: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    keygen("-Y", "sign", "-q", "-n", "git", "-f", str(keys["ed25519"]), str(report / "attestation.json"))
    code, text = check(report, capsys, "--ssh-key", f"{keys['ed25519']}.pub")
    assert (code, "it is for git, not for sealproof" in text) == (3, True), text


def test_a_cut_signature_is_refused(report: Path, keys: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    ssh.sign(report, keys["rsa"])
    lines = (report / SIGNATURE).read_text().splitlines()
    (report / SIGNATURE).write_text("\n".join([*lines[:2], lines[-1]]) + "\n")
    code, text = check(report, capsys)
    assert (code, "is not valid" in text) == (3, True), text


def test_a_key_with_a_passphrase_asks_nobody(report: Path, tmp_path: Path) -> None:
    keygen("-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "key"))
    with pytest.raises(UserInputError, match="did not sign with") as caught:
        ssh.sign(report, tmp_path / "key")
    assert "ssh-add" in caught.value.hint
    assert not (report / SIGNATURE).exists()


def test_a_finished_run_of_ones_own_is_signed_by_the_command(
    report: Path,
    original: Path,
    keys: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = original.parent.parent / "config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    monkeypatch.setattr("sys.argv", ["signoff", str(report), "--ssh-key", str(keys["ed25519"])])
    assert signoff_main() == 0
    assert check(report, capsys, "--ssh-key", f"{keys['ed25519']}.pub")[0] == 0
    assert signoff_main() == 0  # once more changes nothing


def test_a_run_of_another_or_of_nobody_is_not_signed(
    report: Path, keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["signoff", str(report), "--ssh-key", str(keys["ed25519"])])
    assert signoff_main() == 2
    (report / "attestation.json").unlink()
    assert signoff_main() == 2
    assert not (report / SIGNATURE).exists()
