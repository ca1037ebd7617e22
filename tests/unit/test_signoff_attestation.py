# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import base64
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import SetupError, UserInputError
from signoff.attestation import ForgedError, sign, verify
from signoff.evidence import ATTESTATION, BUNDLE, SUMS, Evidence
from signoff.keys import PUBLIC_KEY, fingerprint, own_key, put_key
from signoff.merge import merge
from signoff.report import write
from signoff.verdict import Status
from tests.unit.fleet_samples import FIRST, SECOND, WELL, part


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("signed")
    parts = [
        part(folder / "reports", 1, "one", {FIRST: Status.PASS, **WELL}),
        part(folder / "reports", 2, "two", {SECOND: Status.FAIL, **WELL}),
    ]
    key = Ed25519PrivateKey.generate()
    run = merge(dict.fromkeys(parts, 1.0), folder / "reports", command="python -m fleet run")
    put_key(run, key)
    write(run)
    sign(run, key)
    return run, key


@pytest.fixture
def signed_report(original: tuple[Path, Any], tmp_path: Path) -> tuple[Path, str]:
    folder, key = original
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run", fingerprint(key.public_key())


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_was_signed_is_good_and_says_what_was_proved(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    statement = verify(folder, key)
    assert statement["predicate"]["result"] == "FAILED"
    assert statement["predicate"]["machines"] == ["one", "two"]
    assert FIRST in statement["predicate"]["passedTests"]
    assert SECOND in statement["predicate"]["failedTests"]
    names = [subject_["name"] for subject_ in statement["subject"]]
    assert {"signoff.html", "signoff.json", SUMS, PUBLIC_KEY} < set(names)
    assert sum(name.startswith("parts/") for name in names) == 2
    assert key in (folder / "signoff.html").read_text()
    assert json.loads((folder / "signoff.json").read_text())["signing_key"] == key


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_changed_byte_of_any_file_is_found(signed_report: tuple[Path, str], place: str) -> None:
    folder, key = signed_report
    for name in files(folder):
        path = folder / name
        before = path.read_bytes()
        if not before:
            continue
        at = {"first": 0, "middle": len(before) // 2, "last": len(before) - 1}[place]
        path.write_bytes(before[:at] + bytes([before[at] ^ 0x20]) + before[at + 1 :])
        with pytest.raises(ForgedError):
            verify(folder, key)
        path.write_bytes(before)
    verify(folder, key)


def test_each_byte_of_the_signature_counts(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    path = folder / ATTESTATION
    before = path.read_bytes()
    for at in range(0, len(before), 7):
        for changed in (before[:at] + before[at + 1 :], before[:at] + b" " + before[at:]):
            path.write_bytes(changed)
            with pytest.raises(ForgedError):
                verify(folder, key)
    path.write_bytes(before)
    verify(folder, key)


def test_a_file_more_and_a_file_less_are_found(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    (folder / "parts" / "more").write_text("")
    with pytest.raises(ForgedError, match="not there when it was signed: parts/more"):
        verify(folder, key)
    (folder / "parts" / "more").unlink()
    (folder / "parts" / "link").symlink_to("/")
    with pytest.raises(ForgedError, match="parts/link"):
        verify(folder, key)
    (folder / "parts" / "link").unlink()
    verify(folder, key)
    for name in files(folder):
        if name in (ATTESTATION, BUNDLE):  # nothing is signed without the one, and the other only holds it again
            continue
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(ForgedError):
            verify(folder, key)
        (folder / name).write_bytes(content)


def test_a_report_signed_anew_by_another_key_is_not_good(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    forger = Ed25519PrivateKey.generate()
    put_key(folder, forger)
    write(folder)
    sign(folder, forger)
    verify(folder, fingerprint(forger.public_key()))
    with pytest.raises(ForgedError, match=f"signed by the key {fingerprint(forger.public_key())}, not by {key}"):
        verify(folder, key)


def test_a_checksum_list_made_anew_is_not_good(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    (folder / "claims.jsonl").write_text("")
    Evidence(folder).seal()
    with pytest.raises(ForgedError, match="SHA256SUMS was changed"):
        verify(folder, key)


def test_another_statement_under_the_same_signature_is_not_good(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    envelope = json.loads((folder / ATTESTATION).read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["result"] = "PASSED"
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (folder / ATTESTATION).write_text(json.dumps(envelope))
    with pytest.raises(ForgedError, match="is not valid"):
        verify(folder, key)


def test_a_folder_without_signature_and_a_wrong_fingerprint_are_no_verdict(signed_report: tuple[Path, str]) -> None:
    folder, key = signed_report
    with pytest.raises(UserInputError, match="not a fingerprint"):
        verify(folder, key[:-1])
    (folder / ATTESTATION).unlink()
    with pytest.raises(UserInputError, match="not signed"):
        verify(folder, key)


def test_a_user_has_one_key_that_nobody_else_can_read(tmp_path: Path) -> None:
    key = own_key(tmp_path / "config" / "sealproof")
    again = own_key(tmp_path / "config" / "sealproof")
    assert fingerprint(key.public_key()) == fingerprint(again.public_key())
    path = tmp_path / "config" / "sealproof" / "signing-key.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_is_none_is_said_and_kept(tmp_path: Path) -> None:
    (tmp_path / "signing-key.pem").write_text("none")
    with pytest.raises(SetupError, match="cannot be used"):
        own_key(tmp_path)
    assert (tmp_path / "signing-key.pem").read_text() == "none"


def test_the_bundle_is_the_envelope_and_names_its_key(signed_report: tuple[Path, str]) -> None:
    """As sigstore's specification has it for a key of one's own (sigstore_bundle.proto, PublicKeyIdentifier)."""
    folder, key = signed_report
    bundle = json.loads((folder / BUNDLE).read_text())
    assert bundle == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": key}},
        "dsseEnvelope": json.loads((folder / ATTESTATION).read_text()),
    }
