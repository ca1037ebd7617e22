# SPDX-License-Identifier: GPL-2.0-or-later
"""The patches of a series as they arrive: files of a folder, mailboxes, a quilt series.

What counts for identity is what arrived, to the byte. What is applied is the change in it: git takes mailboxes and
mails apart, and what stands before the first change is left out, since GNU patch would also apply a change that is
quoted there.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import hashlib
import lzma
import re
import stat
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from pathlib import Path

from common.commands import GIT, GIT_ENVIRONMENT, output
from common.errors import CommandError, UserInputError
from common.names import path_text
from common.store import scratch_folder
from host_setup.kernel import prefixes
from host_setup.kernel.tarball import COMPRESSIONS

STAGE = "series"
SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")
_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
_OURS = ("series.toml", "series.config", "series")
# First bytes of what may hold patches and is not looked into: compressed files, zip, 7z, a git bundle; tar's mark.
_BUNDLE = (b"# v2 git b", b"# v3 git b")
_PACKED = (*(magic for magic, _, _ in COMPRESSIONS), b"PK\3\4", b"7z\xbc\xaf\x27\x1c", *_BUNDLE)
_TAR = slice(257, 262), b"ustar"
# What editors, patch and merge tools leave beside a file.
_DROPPING = re.compile(r"[.#].*|.*(~|\.(orig|rej|bak|old|save|swp|tmp))", re.DOTALL)

_CHANGE = re.compile(
    rb"^(?:diff --git |diff -[^\n]*\n|Index: [^\n]*\n=+\n|--- [^\n]+\n\+\+\+ |\*\*\* [^\n]+\n--- )", re.MULTILINE
)
_ENCODED = re.compile(rb"^content-(?:transfer-encoding:\s*(?:base64|quoted-printable)|type:\s*multipart/)", re.I | re.M)
_BINARY_WITHOUT_CONTENT = re.compile(rb"^Binary files (.*) differ$", re.MULTILINE)
_BINARY = b"\nGIT binary patch\n"
_REMOVAL_WITHOUT_CONTENT = re.compile(  # e69de29 and its like is the empty file
    rb"^diff --git [^\n]*\ndeleted file mode [0-7]+\n"
    rb"index (?!e69de29|473a0f4)[0-9a-f]+\.\.0+\n(?!--- |GIT binary|Binary)",
    re.MULTILINE,
)
_COLOURED = re.compile(rb"^\x1b\[[0-9;]*m(?:diff |--- |index )", re.MULTILINE)
_QUOTED = re.compile(rb"^([^\n\w]{1,20})diff (?:--git|-)[^\n]*\n\1", re.MULTILINE)
# GNU patch passes over both without a word where other changes are beside them.
_MERGE = re.compile(rb"^@@@ ", re.MULTILINE)
_SUBMODULE = re.compile(rb"^(?:new file mode|new mode|index [0-9a-f]+\.\.[0-9a-f]+) 160000$", re.MULTILINE)
_CUT_OFF = re.compile(
    rb"^--- [^\n]+\n\+\+\+[^\n]*(?:\n(?!@@ -[0-9,]+ \+[0-9,]+ @@)[^\n]*)?\n?\Z"
    rb"|^index (?!e69de29)[0-9a-f]+\.\.(?!e69de29)[0-9a-f]+[^\n]*\n?(?:--- [^\n]*\n?)?\Z",  # that is the empty file
    re.MULTILINE,
)
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_HTML = re.compile(rb"^content-type:\s*text/html\b", re.IGNORECASE | re.MULTILINE)
_REPLY = re.compile(r"(re|aw|sv|fwd?)\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"\[[^]]*?\b0*(\d+)/0*(\d+)\b[^]]*\]")
_VERSION = re.compile(r"\[[^]]*?\bv(\d+)\b[^]]*\]", re.IGNORECASE)
_TAGS = re.compile(r"(\[[^]]*\]\s*)+")
_SIGNATURE = b"\n-- \n"  # of a mail; git's own version follows


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch.

    :ivar name: of its file; of a mail in a mailbox: with its place and subject. :ivar content: as it arrived.
    :ivar change: the part to apply. :ivar strip: leading folders of its names to drop, if its series says so.
    :ivar subject: of the mail that it is; or empty.
    """

    name: str
    content: bytes
    change: bytes
    strip: int | None = None
    subject: str = ""

    @property
    def sha256(self) -> str:
        """SHA-256 of what arrived."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def written(self) -> frozenset[str]:
        """The text files that it adds or changes, by their names in the tree."""
        return prefixes.written(self.change, self.strip)

    @property
    def number(self) -> tuple[int, int] | None:
        """Its place in its series, and how many there are, as its subject says; None if it says neither."""
        match = _NUMBER.search(self.subject)
        return None if match is None else (int(match[1]), int(match[2]))

    @property
    def is_binary(self) -> bool:
        """Whether it changes a file that is no text, which git alone can do."""
        return _BINARY in self.change

    @property
    def inputs(self) -> list[str | bytes]:
        """What decides what it makes of a tree, for a key."""
        return [self.name, self.content, *([] if self.strip in (None, 1) else [f"-p{self.strip}"])]


def patches(folder: Path) -> tuple[Patch, ...]:
    """The patches in a folder, in the order in which they apply: of its quilt series, else of their names.

    :raises UserInputError: something in the folder is no patch and looks like one, or the reverse; or it holds a patch
        twice.
    """
    files = [
        file
        for file in sorted(folder.iterdir(), key=_natural)
        if not _DROPPING.fullmatch(file.name) and file.name not in _OURS
    ]
    if (folder / "series").is_file():
        return _of_quilt(folder / "series")
    quilt = folder / "patches" / "series"
    if quilt.is_file():
        beside = next((file for file in files if _is_patch(file.name)), None)
        if beside is not None:
            raise _patch_error(
                f"{path_text(beside)} is not used: {path_text(quilt)} says which are", "list it there, or move it away"
            )
        return _of_quilt(quilt)
    patches_found: list[Patch] = []
    for file in files:
        if _is_patch(file.name):
            patches_found += read(file)
        else:
            _refuse_unused(file)
    _refuse_twice(patches_found)
    return tuple(patches_found)


def holds_patches(folder: Path) -> bool:
    """Whether files in a folder, or in ``new`` and ``cur`` of a maildir, are named like patches, or a list is there."""
    files = [*folder.iterdir(), *folder.glob("new/*"), *folder.glob("cur/*")]
    return any(file.name == "series" or _is_patch(file.name) for file in files)


def read(file: Path, strip: int | None = None) -> list[Patch]:
    """The patches of a file: one, those of a mailbox, or none of a cover letter.

    :param strip: as a quilt series says. :raises UserInputError: it holds none, or cannot be read.
    """
    content = _content(file)
    text = _as_text(_decompress(file, content), file).lstrip(b"\n")
    mails = _mails(text, file) if text.startswith(b"From ") else [text]
    if len(mails) > 1:
        return _of_mailbox(file, [_Mail.of(mail, file) for mail in mails], strip)
    mail = _Mail.of(text, file)
    if mail.is_cover or (not mail.change and re.match(r"(.*-)?0000-", file.name)):
        return []
    if not mail.change:
        if _is_packed(content):
            raise _patch_error(f"{path_text(file)} is packed, but is not named like that", _unpack(content))
        raise _without_change(file, text)
    return [Patch(path_text(file.name), content, mail.change, strip, mail.subject)]


# --- files ------------------------------------------------------------------------------------------------------------


def _patch_error(words: str, hint: str) -> UserInputError:
    return UserInputError(words, stage=STAGE, hint=hint)


def _natural(file: Path) -> list[str | int]:
    """Sorts 2-b before 10-c."""
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]+)", file.name))]


def _is_patch(name: str) -> bool:
    name = name.lower()
    for packed in _DECOMPRESS:
        name = name.removesuffix(packed)
    return name.endswith(SUFFIXES)


def _content(file: Path) -> bytes:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise _patch_error(
                f"{path_text(file)} is named like a patch, but is not a file", "move it out of the folder"
            )
        return file.read_bytes()
    except OSError as error:
        raise _patch_error(
            f"the patch {path_text(file)} cannot be read: {error.strerror}",
            "save it again, or move it out of the folder",
        ) from error


def _decompress(file: Path, content: bytes) -> bytes:
    decompress = _DECOMPRESS.get(file.suffix.lower())
    if decompress is None:
        return content
    try:
        return decompress(content)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise _patch_error(f"{path_text(file)} cannot be decompressed: {error}", "save it again") from error


def _as_text(content: bytes, file: Path) -> bytes:
    """A patch as git writes it, of one that went through an editor or a shell of Windows."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            try:
                content = content.decode(encoding).encode()
            except UnicodeDecodeError as error:
                raise _patch_error(
                    f"{path_text(file)} is damaged UTF-16: {error}", "save it again, as UTF-8"
                ) from error
    return _with_newlines(content.removeprefix(codecs.BOM_UTF8))


def _with_newlines(text: bytes) -> bytes:
    """Lines that all end as on Windows, ended as git does; where only some do, the change itself is about that."""
    return text.replace(b"\r\n", b"\n") if text.count(b"\r\n") == text.count(b"\n") else text


def _refuse_unused(file: Path) -> None:
    """Refuse files that their owner may take for a part of the series, but that are not used."""
    try:
        if not file.is_file():
            return
        with file.open("rb") as opened:
            start = opened.read(1 << 16).removeprefix(codecs.BOM_UTF8)
    except OSError:
        return
    if file.suffix == ".config":
        raise _patch_error(f"{path_text(file)} is not used", "name it series.config, or move it out of the folder")
    if _CHANGE.match(start) or (re.match(rb"From |[A-Z][\w-]*: ", start) and _CHANGE.search(start)):
        raise _patch_error(
            f"{path_text(file)} holds a patch, but is not named like one",
            f"give it a name that ends in one of {', '.join(SUFFIXES)}, or move it out of the folder",
        )
    if _is_packed(start):
        raise _patch_error(
            f"{path_text(file)} is packed, and not looked into", f"{_unpack(start)}, or move it out of the folder"
        )


def _is_packed(content: bytes) -> bool:
    return content.startswith(_PACKED) or content[_TAR[0]] == _TAR[1]


def _unpack(content: bytes) -> str:
    """What to do with something packed."""
    if content.startswith(_BUNDLE):
        return "fetch it into your tree, and write its commits here: git format-patch -o FOLDER BASE..COMMIT"
    return "unpack it"


def _without_change(file: Path, text: bytes) -> UserInputError:
    """The error for a file that is named like a patch and changes nothing."""
    if not text.strip():
        return _patch_error(f"{path_text(file)} is empty", "save it again, or move it out of the folder")
    if _COLOURED.search(text):
        return _patch_error(
            f"{path_text(file)} holds the colours of a terminal, and so no change",
            "make it again with --no-color; 'git config color.ui auto' keeps colours out of files",
        )
    before = _QUOTED.search(text)
    if before is not None:
        return _patch_error(
            f"{path_text(file)} holds no change: its lines begin with {before[1].decode(errors='replace')!r}",
            "save the mail itself, not an answer to it; or make it again without --line-prefix",
        )
    return _patch_error(
        f"{path_text(file)} holds no change in the form of diff -u, diff -c or git",
        "make it again with diff -u or git format-patch, or move it out of the folder",
    )


def _refuse_twice(patches: Sequence[Patch]) -> None:
    """Refuse a patch that is there twice: a copy, or two versions of it. One may be applied again after a revert."""
    changes: dict[bytes, int] = {}
    subjects: dict[str, Patch] = {}
    for place, patch in enumerate(patches):
        change = patch.change.rpartition(_SIGNATURE)[0] or patch.change
        before = changes.get(change, place)
        changes[change] = place
        between = any(other.written & patch.written for other in patches[before + 1 : place])
        numbered = _NUMBER.search(patch.subject) is not None and patch.subject == patches[before].subject
        if before != place and (numbered or not between):
            raise _patch_error(
                f"{patches[before].name} and {patch.name} hold the same change", "move one of them out of the folder"
            )
        title = _TAGS.sub("", patch.subject, count=1)
        first = subjects.setdefault(title, patch)
        versions = [_version(candidate.subject) for candidate in (first, patch)]
        if title and versions[0] != versions[1]:
            raise _patch_error(
                f"{first.name} and {patch.name} are versions {versions[0]} and {versions[1]} of a patch",
                "leave the patches of one version in the folder",
            )


def _version(subject: str) -> int:
    match = _VERSION.search(subject)
    return 1 if match is None else int(match[1])


def _of_quilt(series: Path) -> tuple[Patch, ...]:
    """The patches that a quilt series lists, see quilt(1): a file a line, with -pN, and comments."""
    patches: list[Patch] = []
    listed: set[str] = set()
    for line in series.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines():
        name, *options = re.sub(r"(^|\s)#.*", "", line).split() or [""]
        if not name:
            continue
        guard = re.search(r"\s#([+-]\S+)", line)  # of Mercurial's queues
        if guard is not None or name[0] in "+-":  # of the older quilt, and of guards(1)
            raise _patch_error(
                f"{path_text(series)}: {path_text(guard[1] if guard else name)} is a guard, which is not supported",
                "list the patches that are meant, without guards",
            )
        if name in listed:
            raise _patch_error(f"{path_text(series)} lists {path_text(name)} twice", "remove one of the lines")
        listed.add(name)
        strip = 1
        for option in options:
            level = re.fullmatch(r"-p(\d+|ab)", option)
            if level is None:
                raise _patch_error(
                    f"{path_text(series)}: {path_text(name)} has the option {path_text(option)}",
                    "only -pN is supported; a name that is listed has no blanks",
                )
            strip = 1 if level[1] == "ab" else int(level[1])
        quilted = [*read(series.parent / name, strip)]
        patches += [replace(p, name=path_text(name)) for p in quilted] if len(quilted) == 1 else quilted
    if not listed:
        raise _patch_error(f"{path_text(series)} lists no patch", "list them there, one a line; or remove it")
    return tuple(patches)


# --- mails ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mail:
    """One mail, or what is none and holds a change all the same.

    :ivar number: its place in its series, and how many there are; None if the subject says neither.
    """

    content: bytes
    change: bytes
    subject: str
    number: tuple[int, int] | None
    version: int

    @classmethod
    def of(cls, content: bytes, file: Path) -> _Mail:
        """:raises UserInputError: it cannot be taken apart."""
        change = _change(content, file)
        head = _head(content)
        subject = _subject(head) if head is not None else ""
        number = _NUMBER.search(subject)
        places = None if number is None else (int(number[1]), int(number[2]))
        return cls(content, change, subject, places, _version(subject))

    @property
    def is_cover(self) -> bool:
        """Whether it is the cover letter, which may show what has changed since the last version as a change."""
        first = self.number is not None and self.number[0] == 0
        return first and (not self.change or re.search(rb"^Interdiff", self.content, re.MULTILINE) is not None)

    @property
    def is_reply(self) -> bool:
        """Whether it answers another mail."""
        return _REPLY.match(self.subject) is not None


def _head(content: bytes) -> Message | None:
    """The header of a mail; None for what is none."""
    text = content.partition(b"\n")[2] if content.startswith(b"From ") else content
    return BytesHeaderParser().parsebytes(text) if re.match(rb"[A-Za-z][\w-]*:", text) else None


def _subject(head: Message) -> str:
    written = str(head.get("Subject", ""))
    with contextlib.suppress(UnicodeDecodeError, LookupError, ValueError):  # then it is shown as it is written
        written = str(make_header(decode_header(written)))
    return " ".join(written.split())


def _change(content: bytes, file: Path) -> bytes:
    """The part of a patch that changes files; empty if there is none."""
    head = _head(content)
    if _WEB_PAGE.match(content) or (head is not None and _HTML.search(content.partition(b"\n\n")[0])):
        raise _patch_error(
            f"{path_text(file)} is a web page, whose text is not the patch's",
            "save the patch itself: 'raw' or 'plain' on the page, or 'b4 am'",
        )
    if head is not None and _ENCODED.search(content.partition(b"\n\n")[0]):
        content = _with_newlines(_decode_mail(content, file))
    start = _CHANGE.search(content)
    if start is None:
        return b""
    change = content[start.start() :]
    without = _BINARY_WITHOUT_CONTENT.search(change)
    if without is not None:
        raise _patch_error(
            f"{path_text(file)} changes a binary file but lacks its content: "
            f"{path_text(without[1].decode(errors='replace'))}",
            "make it again with git format-patch, or with git diff --binary",
        )
    if _REMOVAL_WITHOUT_CONTENT.search(change):
        raise _patch_error(
            f"{path_text(file)} removes a file but lacks its content",
            "make it again without --irreversible-delete (-D)",
        )
    if _MERGE.search(change):
        raise _patch_error(
            f"{path_text(file)} holds a merge, which is not a patch",
            "make it again with git format-patch, without merges",
        )
    if _SUBMODULE.search(change):
        raise _patch_error(
            f"{path_text(file)} changes a submodule, whose content no patch holds",
            "name a tree that has it with --kernel, and make the patch again with --ignore-submodules",
        )
    if _CUT_OFF.search(change):
        raise _patch_error(f"{path_text(file)} is truncated: its last file has no change", "save it again")
    if (name := prefixes.outside(change)) is not None:
        raise _patch_error(
            f"{path_text(file)} changes a file outside of the kernel's tree: {path_text(name)}",
            "make it again at the top of the tree, with git format-patch",
        )
    return change


def _decode_mail(mail: bytes, file: Path) -> bytes:
    """The patch in an encoded mail."""
    with scratch_folder() as inside:
        (inside / "mail").write_bytes(mail)
        # It reads its standard input alone.
        script = 'exec "$@" mailinfo --no-scissors "$0/message" "$0/patch" < "$0/mail"'
        try:
            output(["sh", "-c", script, str(inside), *GIT], stage=STAGE, env=GIT_ENVIRONMENT)
        except CommandError as error:
            raise _patch_error(
                f"git cannot read the mail in {path_text(file)}: {error.tail.strip()}", "save it again"
            ) from error
        return (inside / "patch").read_bytes()


def _mails(text: bytes, file: Path) -> list[bytes]:
    """The mails of a mailbox."""
    with scratch_folder() as scratch:
        box, mails = scratch / "box", scratch / "mails"
        box.write_bytes(text)
        mails.mkdir()
        try:
            output(
                [*GIT, "mailsplit", "--keep-cr", "-d9", f"-o{mails}", "--", str(box)], stage=STAGE, env=GIT_ENVIRONMENT
            )
        except CommandError as error:
            raise _patch_error(
                f"git cannot read the mailbox {path_text(file)}: {error.tail.strip()}", "save it again"
            ) from error
        return [mail.read_bytes() for mail in sorted(mails.iterdir())]


def _of_mailbox(file: Path, mails: Sequence[_Mail], strip: int | None) -> list[Patch]:
    """The patches among the mails: no cover letter, no answer; in the order of their numbers."""
    first = [mail for mail in mails if not mail.is_cover and not mail.is_reply]
    lost = [mail for mail in first if mail.number is not None and mail.number[0] and not mail.change]
    if lost:
        raise _patch_error(
            f"{path_text(file)}: a patch holds no change: {path_text(lost[0].subject)}", "save the mailbox again"
        )
    with_change = [mail for mail in first if mail.change]
    if not with_change:
        raise _without_change(file, mails[0].content)
    versions = sorted({mail.version for mail in with_change if mail.number is not None})
    if len(versions) > 1:
        raise _patch_error(
            f"{path_text(file)} holds versions {' and '.join(map(str, versions))} of a series",
            "choose one: 'b4 am' writes a mailbox with a single version",
        )
    numbers = [mail.number for mail in with_change]
    subjects = [mail.subject for mail in with_change]
    twice = [subject for at, subject in enumerate(subjects) if numbers[at] and subject in subjects[:at]]
    if twice:
        raise _patch_error(f"{path_text(file)} holds a patch twice: {path_text(twice[0])}", "remove one: 'b4 am' does")
    for total in sorted({number[1] for number in numbers if number}):
        there = {number[0] for number in numbers if number and number[1] == total}
        missing = next((place for place in range(1, total + 1) if place not in there), None)
        if missing is not None:
            raise _patch_error(
                f"{path_text(file)} lacks patch {missing} of {total}",
                "fetch the mailbox again; if you want only some of its patches, save each as a file of its own",
            )
    if all(numbers) and len(set(numbers)) == len(numbers) and len({number[1] for number in numbers if number}) == 1:
        with_change.sort(key=lambda mail: mail.number or (0, 0))
    return [
        Patch(
            f"{path_text(file.name)}:{place:04} {path_text(mail.subject)}",
            mail.content,
            mail.change,
            strip,
            mail.subject,
        )
        for place, mail in enumerate(with_change, 1)
    ]
