# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports whose files are no files of a report: each is refused with a status and a sentence, and never a traceback.

What is in them is the same for each file that the verifier reads: nested too deep, endless numbers, other encodings.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.report_samples import KEY, contract_sha256, small_report
from tests.unit.test_tampering import MINE, chain, change_seen, check, forge, line, remake_or_seal, saying
from tests.unit.test_tampering_archives import tar, zip_folder
from verifier import run as runs
from verifier import sweeps, tree
from verifier.__main__ import main
from verifier.text import UnsoundError

PROJECT = Path(__file__).parents[2]
OWN = ("attestation.json", "attestation.sigstore.json", "attestation.json.sig", "SHA256SUMS", "signing-key.pub")
"""Of the signature: a forger cannot sign them again."""
FILES = (
    *OWN, "record.json", "planned.json", "claims.jsonl", "journal.jsonl", "contract/contract.toml",
    "contract/evidence.toml", "evidence/host_cannot_read/subject.jsonl", "evidence/guest_works/checks-control.jsonl",
    "evidence/host_reads_no_other_page/protected.process_vm_readv.json", "signoff.json", "signoff.html",
    "signoff.css", "signoff.sarif", "signoff.tap", "junit.xml", "kcidb.json", "fleet.json", "identity/kernel.config",
    "identity/sealproof.sha256", "identity/payload.sha256",
)  # fmt: skip
CONTENTS = {
    "lists_in_lists": b"[" * 100_000 + b"]" * 100_000,
    "objects_in_objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "arrays_of_a_contract": b"version = 2\na = " + b"[" * 100_000,
    "elements_in_elements": b"<?xml version='1.0' encoding='utf-8'?>\n" + b"<a>" * 100_000 + b"</a>" * 100_000,
    "a_number_of_5000_digits": b"1" * 5000,
    "a_number_of_400_digits": b'{"run": ' + b"1" * 400 + b"}",
    "no_number": b'{"a": NaN}',
    "a_number_without_end": b'{"a": -Infinity}',
    "a_number_that_is_too_large": b'{"a": 1e999}',
    "a_name_twice": b'{"a": 1, "a": 1}',
    "bytes_of_no_encoding": b'{"a": "\xff\xfe"}',
    "half_a_letter": b'{"a": "\\ud800"}',
    "a_mark_of_byte_order": b"\xef\xbb\xbf{}",
    "utf_16": "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a><testsuites/>".encode("utf-16"),
    "zeros": bytes(4096),
    "a_long_line": b'{"a": "' + b"x" * 4_000_000 + b'"}',
    "nothing": b"",
    "a_list": b"[]",
    "a_word": b'"x"',
    "null": b"null",
    "an_empty_object": b"{}",
    "lines_of_nothing": b"{}\n" * 1000,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_report(tmp_path_factory.mktemp("inputs") / "reports", KEY)


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_of_another_kind_is_refused(report: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    sealed = {name: path.read_bytes() for name in FILES if (path := report / name).exists()}
    for name in FILES:
        (report / name).write_bytes(CONTENTS[kind])
        if name not in OWN:
            forge(report)
        code, output = check(report, capsys)
        assert (code, "not sound" in output) == (3, True), (name, output)
        for each in {name, *OWN}:
            (report / each).unlink(missing_ok=True)
            if each in sealed:
                (report / each).write_bytes(sealed[each])


# --- places ---


def test_what_is_neither_a_folder_nor_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/null")):
        code, output = check(path, capsys)
        assert (code, "neither a folder nor a plain file" in output) == (3, True), output


@pytest.mark.parametrize("name", ["nothing", "loop"])
def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert main([str(tmp_path / name)]) == 2
    assert f"{name}: " in capsys.readouterr().err


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (listening, "is a link or a special file"),
        (os.mkfifo, "is a link or a special file"),
        (lambda path: path.symlink_to("console.log"), "is a link or a special file"),
        (lambda path: path.symlink_to(path.parent), "is a link or a special file"),
        (lambda path: path.hardlink_to(path.parents[1] / "record.json"), "were not there when it was signed"),
        (lambda path: path.open("wb").truncate(1 << 40), "is too large"),
        (lambda path: Path(os.fsdecode(os.fsencode(path) + b"\xff")).touch(), "is not a plain name"),
        (lambda path: path.with_name("a\nb").touch(), "is not a plain name"),
        (lambda path: path.with_name("a\u202eb").touch(), "is not a plain name"),
        (lambda path: Path(path, *["aa"] * 200).mkdir(parents=True), "is not a plain name"),
    ],
)
def test_what_lies_in_a_folder_is_looked_at(
    report: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object], words: str
) -> None:
    (report / "logs").mkdir(exist_ok=True)
    make(report / "logs" / "more")
    code, output = check(report, capsys)
    assert (code, words in output) == (3, True), output


def test_a_folder_of_many_files_is_refused_soon(
    report: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "FILES", 50)
    for number in range(60):
        (report / f"logs/{number}").mkdir(parents=True)
    assert "more folders than any" in check(report, capsys)[1]
    for number in range(60):
        (report / f"logs/{number}").rmdir()
        (report / f"logs/{number}").touch()
    assert "is too large" in check(report, capsys)[1]


def test_a_file_that_becomes_a_pipe_is_refused(report: Path) -> None:
    result = tree.load(report)
    (report / "record.json").unlink()
    os.mkfifo(report / "record.json")
    with pytest.raises(UnsoundError, match=r"record\.json is a link or a special file"):
        result.read("record.json")


# --- archives ---


def header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(format=tarfile.GNU_FORMAT)


def block(data: bytes) -> bytes:
    return data.ljust(512, b"\0")


LONG = header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2) + block(b"a\0")
PAX = header("x", tarfile.XHDTYPE, 12) + block(b"12 foo=bars\n")


def spoilt(data: bytes, at: int = 2000) -> bytes:
    return data[:at] + bytes(value ^ 0x5A for value in data[at : at + 64]) + data[at + 64 :]


def stored(folder: Path, kind: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
    return out.getvalue()


def holes(folder: Path) -> bytes:
    """A tar archive with a file of which only a part is there, as GNU tar writes one (type S)."""
    head = bytearray(header(f"{folder.name}/logs/more", tarfile.GNUTYPE_SPARSE, 0))
    head[386:398] = head[398:410] = b"00000000000\0"
    head[483:495] = b"00000001000\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + tar(folder)


ARCHIVES: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "names_of_names": (lambda f: LONG * 5000 + tar(f), "neither a folder nor a whole tar"),
    "headers_of_headers": (lambda f: PAX * 5000 + tar(f), "neither a folder nor a whole tar"),
    "a_header_that_is_too_large": (
        lambda f: gzip.compress(header("x", tarfile.XHDTYPE, 1 << 31) + bytes(8 << 20) + tar(f)),
        "has a header of",
    ),
    "a_bomb": (lambda _: gzip.compress(bytes(160 << 20)), "unpacks to too much"),
    "a_file_with_holes": (holes, "has holes in it"),
    "half_a_gzip": (lambda f: gzip.compress(tar(f))[:-100], "neither a folder nor a whole tar"),
    "half_a_bzip2": (lambda f: bz2.compress(tar(f))[:-100], "neither a folder nor a whole tar"),
    "half_an_xz": (lambda f: lzma.compress(tar(f))[:-100], "neither a folder nor a whole tar"),
    "half_a_tar": (lambda f: tar(f)[:20_000], "neither a folder nor a whole tar"),
    "a_spoilt_gzip": (lambda f: spoilt(gzip.compress(tar(f))), "neither a folder nor a whole tar"),
    "a_spoilt_bzip2": (lambda f: spoilt(bz2.compress(tar(f))), "neither a folder nor a whole tar"),
    "a_spoilt_xz": (lambda f: spoilt(lzma.compress(tar(f))), "neither a folder nor a whole tar"),
    "a_spoilt_zip": (lambda f: spoilt(stored(f, zipfile.ZIP_DEFLATED)), ""),
    "a_spoilt_zip_of_bzip2": (lambda f: spoilt(stored(f, zipfile.ZIP_BZIP2)), ""),
    "a_spoilt_zip_of_lzma": (lambda f: spoilt(stored(f, zipfile.ZIP_LZMA)), ""),
    "zstandard": (lambda f: b"\x28\xb5\x2f\xfd" + tar(f)[:500], "neither a folder nor a whole tar"),
    "the_begin_of_a_zip": (lambda _: b"PK\3\4", "is damaged"),
    "an_empty_file": (lambda _: b"", "neither a folder nor a whole tar"),
    "zeros": (lambda _: bytes(10240), "not one report's folder"),
    "a_gzip_of_nothing": (lambda _: gzip.compress(b""), "neither a folder nor a whole tar"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_none_is_refused(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, words = ARCHIVES[name]
    path = tmp_path / "archive"
    path.write_bytes(make(original))
    code, output = check(path, capsys)
    assert (code, words in output) == (3, True), output


@pytest.mark.parametrize("pack", [tar, lambda f: bz2.compress(tar(f)), lambda f: lzma.compress(tar(f)), zip_folder])
def test_what_packs_a_report_does_not_matter(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pack: Callable[[Path], bytes]
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(pack(original))
    assert check(path, capsys)[0] == 0


# --- sizes ---


def test_more_bytes_than_any_probe_brings_are_refused(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_seen("host_cannot_read", "subject", saying(data="00" * ((1 << 20) + 1)))(report)
    remake_or_seal(report)
    code, output = check(report, capsys)
    assert (code, "which no probe brings" in output) == (3, True), output


@pytest.mark.parametrize("spans", [[[0, 1 << 50, "private"]], [[0, -1, "private"]], [[0, 1.5, "private"]], [7], 7])
def test_a_picture_that_nobody_can_draw_is_refused_soon(
    report: Path, capsys: pytest.CaptureFixture[str], spans: object
) -> None:
    line("host_reads_no_other_page", lambda row: row["maps"][0].update(spans=spans))(report)
    chain(report)
    forge(report)
    code, output = check(report, capsys)
    assert (code, "its maps have more pages than a guest can have, or are not maps" in output) == (3, True), output


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["slots"][0].__setitem__(1, 1 << 23),
        lambda content: content["slots"].extend([[at << 40, 1 << 20, 1 << 50, False, False] for at in range(1, 9)]),
        lambda content: content["found"].extend([[0, 1 << 21, "EFAULT"]] * 4),
        lambda content: content["slots"][0].__setitem__(3, "\u202e"),
        lambda content: content["slots"][0].__setitem__(0, 4096.0),
        lambda content: content["found"][0].__setitem__(2, 14),
        lambda content: content.update(pages={}),
        lambda content: content.update(protected=1),
    ],
)
def test_a_sweep_of_more_than_any_guest_has_or_of_words_is_none(
    original: Path, change: Callable[[dict[str, list[object]]], object]
) -> None:
    content = json.loads((original / "evidence/host_reads_no_other_page/protected.process_vm_readv.json").read_text())
    sweeps.read(content, "it")
    change(content)
    with pytest.raises(UnsoundError, match="it is not a sweep"):
        sweeps.read(content, "it")


# --- what is said, and where ---


@pytest.mark.parametrize(
    ("to", "status"),
    [("", 0), (">&-", 2), (">/dev/full", 2), (">&- 2>&-", 2), ("2>&-", 0)],
)
def test_only_what_could_be_said_is_proven(original: Path, to: str, status: int) -> None:
    words = f"--key {MINE} --contract {contract_sha256()}"
    line = f"{sys.executable} -m verifier {original} {words} {to}"
    done = subprocess.run(["sh", "-c", line], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")


def test_what_cannot_be_shown_is_not_sound(
    original: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> str:
        raise OverflowError

    monkeypatch.setattr(runs, "series_of", broken)
    code, output = check(original, capsys)
    assert (code, "what it says cannot be shown (OverflowError)" in output) == (3, True), output


def test_a_terminal_that_has_few_letters_is_told_all(report: Path) -> None:
    page = report / "signoff.html"
    page.write_text(page.read_text().replace("·", "\N{BULLET}", 1))
    forge(report)
    few = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "verifier", str(report), "--key", MINE]
    done = subprocess.run(command, cwd=PROJECT, env=few, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert "\\u2022" in done.stdout


@pytest.mark.parametrize("way", [["-I"], ["-I", "-S"], []])
def test_no_code_of_the_folder_that_it_is_called_in_runs(
    original: Path, tmp_path: Path, way: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PROJECT / "verifier", tmp_path / "verifier", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("json", "tomllib", "text", "cryptography", "verifier.py"):
        (tmp_path / f"{name.removesuffix('.py')}.py").write_text("raise SystemExit(0)")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    words = [str(original), "--key", MINE, "--contract", contract_sha256()]
    command = [sys.executable, *way, "verifier", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "-S" in way:  # without packages there is no cryptography, and nothing was checked
        assert done.returncode == 2
        assert done.stderr.startswith("the verifier needs Python 3.11 and the package cryptography: ")
    else:
        assert (done.returncode, done.stdout.partition(" ")[0]) == (0, "PROTECTED"), done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([""], "the path is empty"),
        ([".", "--oldest", "9999-99-99"], "is no day: write it as YYYY-MM-DD"),
        ([".", "--youngest", "yesterday"], "is no day: write it as YYYY-MM-DD"),
    ],
)
def test_an_argument_that_says_nothing_is_an_error(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert reason in capsys.readouterr().err
