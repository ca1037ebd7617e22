# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives of a good report out of which another unpacker makes a bad one, and a folder that changes meanwhile."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.report_samples import small_report
from tests.unit.test_tampering import KEY, check
from verifier.text import UnsoundError
from verifier.tree import load

Attempt = Callable[[Path], bytes]
PAGE = "signoff.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_report(tmp_path_factory.mktemp("archives") / "reports", KEY)


def tar(folder: Path, **options: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=folder.name)
    return out.getvalue()


def tar_of(name: str) -> bytes:
    """A tar archive with another page."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"NOT"))
    return out.getvalue()


def zip_folder(folder: Path, *, comment: bytes = b"", extra: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder)}")
            info.extra = extra if path.name == PAGE else b""
            archive.writestr(info, path.read_bytes())
        archive.comment = comment
    return out.getvalue()


def zip_member(name: str) -> bytes:
    """A member of a zip archive, which no list names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "NOT")
    return out.getvalue()[: out.getvalue().index(b"PK\1\2")]


def behind_a_zero_block(folder: Path) -> bytes:
    good = tar(folder).rstrip(b"\0")
    return good + bytes(-len(good) % 512 + 512) + tar_of(f"{folder.name}/{PAGE}")


def with_a_name(folder: Path, name: str) -> bytes:
    archive = tar(folder).rstrip(b"\0")
    return archive + bytes(-len(archive) % 512) + tar_of(f"{folder.name}/{name}")


def own_path(folder: Path) -> bytes:
    """A member that some unpackers call by another name (Info-ZIP's Unicode path)."""
    return zip_folder(folder, extra=struct.pack("<HHBL", 0x7075, 12, 1, 0) + b"evil.ht")


def two_heads(folder: Path, place: int, value: bytes) -> bytes:
    """A zip archive whose first member says something else of itself than the list does."""
    archive = zip_folder(folder)
    return archive[:place] + value + archive[place + len(value) :]


def with_more_in_its_header(content: bytes, more: bytes) -> bytes:
    """A gzip file whose header has a field that no unpacker minds (RFC 1952 2.3.1.1): 65,535 bytes at most."""
    packed = gzip.compress(content)
    return packed[:3] + bytes([packed[3] | 4]) + packed[4:10] + struct.pack("<H", len(more)) + more + packed[10:]


def zip_end(size: int, offset: int) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, size, offset, 0)


def by_its_pax_name(folder: Path) -> bytes:
    """A tar archive in which a log is called as the page is, for unpackers that read no pax headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            name = f"{folder.name}/{path.relative_to(folder)}"
            info = archive.gettarinfo(path, name)
            if path.name == "console.log":
                info.name, info.pax_headers = f"{folder.name}/{PAGE}", {"path": name}
            with path.open("rb") as data:
                archive.addfile(info, data)
    return out.getvalue()


def block(data: bytes) -> bytes:
    """Data in whole blocks of a tar archive."""
    return data + bytes(-len(data) % 512)


def tar_head(name: str, length: int, kind: bytes = tarfile.REGTYPE, **fields: bytes) -> bytes:
    """A header whose fields are as they are given, with its checksum."""
    info = tarfile.TarInfo(name)
    info.size, info.type = length, kind
    head = bytearray(info.tobuf(format=tarfile.USTAR_FORMAT))
    for field, value in fields.items():
        at = {"size": 124, "magic": 257, "prefix": 345}[field]
        head[at : at + len(value)] = value
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def two_files_in_one(folder: Path) -> bytes:
    """What is a file's content to one unpacker is a file to another, which takes the file for a shorter one."""
    return bytes(512) + tar_head(f"{folder.name}/signoff.json", 3) + block(b"NOT")


def by_its_pax_size(folder: Path) -> bytes:
    content = two_files_in_one(folder)
    words = b"size=%d\n" % len(content)
    words = b"%d %b" % (len(words) + 3, words)
    pax = tar_head("x", len(words), tarfile.XHDTYPE) + block(words)
    return pax + tar_head(f"{folder.name}/logs/more.txt", 0) + content + tar(folder)


def by_odd_digits(folder: Path) -> bytes:
    """Python takes the size for a number, and others end at a letter that is no digit."""
    content = two_files_in_one(folder)
    size = (b"0_%o" % len(content)).rjust(11, b"0")
    return tar_head(f"{folder.name}/logs/more.txt", 0, size=size) + content + tar(folder)


def by_an_old_prefix(folder: Path) -> bytes:
    """A name whose first part only those read who do not look at the archive's form."""
    prefix = f"{folder.name}/logs".encode()
    return tar_head("signoff.json", 3, magic=b"ustar  \0", prefix=prefix) + block(b"NOT") + tar(folder)


def with_comments(folder: Path) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(file for file in folder.rglob("*") if file.is_file()):
            info = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder)}")
            info.comment = b"PROTECTED on SEV-SNP"
            archive.writestr(info, path.read_bytes())
    return out.getvalue()


def of_one_file_by_its_count(folder: Path) -> bytes:
    archive = bytearray(zip_folder(folder))
    end = archive.rindex(b"PK\5\6")
    archive[end + 8 : end + 12] = b"\1\0\1\0"
    return bytes(archive)


def name_that_ends(folder: Path) -> bytes:
    """A name that ends at a zero for one unpacker, and goes on for another."""
    name, other = (f"{folder.name}/{ending}".encode() for ending in ("signoff.tap", "signoff.\0ap"))
    return zip_folder(folder).replace(name, other)


def a_file_in_a_file(folder: Path) -> bytes:
    names = (f"{folder.name}/logs/{name}" for name in ("a.txt", "a.txt/b.txt"))
    return b"".join(tar_head(name, 3) + block(b"NOT") for name in names) + tar(folder)


ATTEMPTS: dict[str, tuple[Attempt, str]] = {
    "a_page_behind_a_block_of_zeros": (behind_a_zero_block, "goes on behind the archive's end"),
    "a_second_tar": (lambda f: tar(f) + tar_of(f"{f.name}/{PAGE}"), "goes on behind the archive's end"),
    "a_second_gzip": (lambda f: gzip.compress(tar(f)) + gzip.compress(tar_of(PAGE)), "behind the archive's end"),
    "something_behind_gzip": (lambda f: gzip.compress(tar(f)) + b"more", "neither a folder nor a whole tar"),
    "a_tar_that_ends_as_a_zip": (lambda f: tar_of(f"{f.name}/{PAGE}") + zip_folder(f), "does not begin like one"),
    "a_script_that_ends_as_a_zip": (lambda f: b"#!/bin/sh\n" + zip_folder(f), "does not begin like one"),
    "a_member_that_no_list_names": (
        lambda f: zip_member(f"{f.name}/{PAGE}") + zip_folder(f),
        "more than its list names",
    ),
    "a_zip_with_a_comment": (lambda f: zip_folder(f, comment=b"PROTECTED on SEV-SNP"), "more than its list names"),
    "a_member_with_two_names": (own_path, "names that programs read differently"),
    "a_member_stored_in_another_way": (lambda f: two_heads(f, 8, b"\x08\0"), "more than its list names"),
    "a_member_of_another_checksum": (lambda f: two_heads(f, 14, bytes(4)), "more than its list names"),
    "a_member_that_is_shorter": (lambda f: two_heads(f, 18, bytes(4)), "more than its list names"),
    "a_member_that_unpacks_to_less": (lambda f: two_heads(f, 22, b"\3\0\0\0"), "more than its list names"),
    "a_member_that_is_locked": (lambda f: two_heads(f, 6, b"\1\0"), "more than its list names"),
    "a_name_that_some_do_not_read": (by_its_pax_name, "has a name that not every program reads"),
    "a_name_for_all": (
        lambda f: tar(f, format=tarfile.PAX_FORMAT, pax_headers={"path": "x"}),
        "uses global names",
    ),
    "a_size_that_some_do_not_read": (by_its_pax_size, "has a size that not every program reads"),
    "a_size_of_odd_digits": (by_odd_digits, "has a size that not every program reads"),
    "a_name_whose_first_part_some_do_not_read": (by_an_old_prefix, "has a name that not every program reads"),
    "a_member_with_a_comment": (with_comments, "more than its list names"),
    "a_list_of_fewer_members": (of_one_file_by_its_count, "more than its list names"),
    "a_name_that_ends_at_a_zero": (name_that_ends, "more than its list names"),
    "a_file_in_a_file": (a_file_in_a_file, "is a file, and"),
    "a_name_that_differs_by_case": (
        lambda f: with_a_name(f, "SIGNOFF.HTML"),
        "the same file where case does not count",
    ),
    "a_name_that_ends_in_a_blank": (lambda f: with_a_name(f, f"{PAGE} "), "is not a plain name"),
    "a_name_with_a_dot_in_the_way": (lambda f: with_a_name(f, f"./{PAGE}"), "is not a plain name"),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_is_refused_by_name(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make, words = ATTEMPTS[name]
    path = tmp_path / "archive"
    path.write_bytes(make(report))
    code, text = check(path, capsys)
    assert (code, words in text) == (3, True), text


@pytest.mark.parametrize(
    "make",
    [tar, lambda f: gzip.compress(tar(f)), lambda f: tar(f, format=tarfile.GNU_FORMAT), zip_folder,
     lambda f: zip_folder(f, extra=struct.pack("<HHBL", 0x5455, 5, 1, 0))],
)  # fmt: skip
def test_an_archive_is_good_as_usual_tools_make_it(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Attempt
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(make(report))
    code, text = check(path, capsys)
    assert code == 0, text


DIRECTORY = b"PK\1\2" + bytes(42)


@pytest.mark.parametrize(
    "more",
    [
        DIRECTORY + zip_end(46, 12),
        DIRECTORY + zip_end(46, 7),
        DIRECTORY + zip_end(1 << 30, 12),
        zip_end(0xFFFFFFFF, 0xFFFFFFFF),
        DIRECTORY + zip_end(46, 7) + b"PK\5\6" + bytes(30),
    ],
)
def test_a_gzip_file_with_the_end_of_a_zip_archive_is_refused(more: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(with_more_in_its_header(tar_of(f"run/{PAGE}"), more))
    with pytest.raises(UnsoundError, match="ends like a zip archive but does not begin like one"):
        load(path)


@pytest.mark.parametrize("more", [b"PK\5\6", b"PK\5\6, as chance has it: more than 22 bytes", zip_end(46, 0)])
def test_a_gzip_file_is_no_zip_archive_for_a_mark_that_it_has_by_chance(more: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(with_more_in_its_header(tar_of(f"run/{PAGE}"), more))
    assert load(path).names == [PAGE]


def test_a_file_that_changes_after_its_signature_was_checked_is_refused(report: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(report, tmp_path / report.name))
    tree = load(folder)
    part = tree.below("contract")
    tree.read("record.json")
    (folder / "record.json").write_text("{}")
    with pytest.raises(UnsoundError, match=r"record\.json changes while it is read"):
        tree.read("record.json")
    tree.sha256("contract/contract.toml")
    (folder / "contract/contract.toml").write_text("")
    with pytest.raises(UnsoundError, match=r"contract\.toml changes while it is read"):
        tree.below("contract").read("contract.toml")
    assert part.names == ["contract.toml"]


def test_what_is_no_report_at_all_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# a text, and no archive\n" * 100)
    with pytest.raises(UnsoundError, match="neither a folder nor a whole tar or zip archive") as caught:
        load(tmp_path / "README.md")
    assert "\n" not in str(caught.value)
