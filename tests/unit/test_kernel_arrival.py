# SPDX-License-Identifier: GPL-2.0-or-later
"""Series as they arrive: all of one is applied, in order, and what is no patch of it is not; or one line says why."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import os
import quopri
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import KernelError, SealproofError, UserInputError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import series, source
from host_setup.kernel.arrival import Patch
from host_setup.kernel.patches import source_tree

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\nKERNELVERSION = $(VERSION)\n"
TOML = 'title = "T"\nbase = ">=6.12,<6.13"\nmode = "plain"\ndescription = "D"\n'
LINES = [f"line {number}\n" for number in range(1, 31)]


def git(tree: Path, *words: str) -> str:
    identity = ("-c", "user.name=Jürgen Größe", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, "-C", str(tree), *words], check=True, capture_output=True)
    return done.stdout.decode()  # with all its line ends


class Work:
    """A kernel with commits on it, a folder for its series, and what comes of that."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "linux"
        (self.tree / "mm").mkdir(parents=True)
        (self.tree / "Makefile").write_text(MAKEFILE)
        (self.tree / "mm/memory.c").write_text("".join(LINES))
        (self.tree / "mm/old.c").write_text("".join(LINES))
        (self.tree / "mm/gone.c").write_text("gone\n")
        (self.tree / "mm/logo.bin").write_bytes(bytes(range(256)))
        git(folder, "init", "-q", str(self.tree))
        git(self.tree, "add", "--all")
        git(self.tree, "commit", "-qm", "base")
        self.base = git(self.tree, "rev-parse", "HEAD").strip()
        self.folder = folder / "series"
        self.folder.mkdir()
        (self.folder / "series.toml").write_text(TOML)
        self.store, self.logs = Store(folder / "cache"), folder / "logs"
        self.logs.mkdir()

    def commit(self, subject: str, **files: str | bytes | None) -> None:
        """Change files (``mm__x`` is mm/x.c) and commit that."""
        for name, content in files.items():
            file = self.tree / f"{name.replace('__', '/')}.c"
            if content is None:
                file.unlink()
            elif isinstance(content, bytes):
                file.write_bytes(content)
            else:
                file.write_text(content)
        git(self.tree, "add", "--all")
        git(self.tree, "commit", "-qm", subject)

    def three(self) -> None:
        """Three commits, two of which change the same lines."""
        self.commit("mm: one", mm__memory="".join(["first\n", *LINES[1:]]))
        self.commit("mm: two ünd", mm__memory="".join(["second\n", *LINES[1:]]))
        self.commit("mm: three", mm__memory="".join(["third\n", *LINES[1:]]), mm__new="new\n")

    def format(self, *words: str) -> list[Path]:
        """format-patch into the series."""
        git(self.tree, "format-patch", "-q", "-o", str(self.folder), *words, self.base)
        return sorted(self.folder.glob("*.patch"))

    def mailbox(self, *words: str) -> bytes:
        return git(self.tree, "format-patch", "--stdout", *words, self.base).encode()

    def put(self, name: str, content: str | bytes) -> Path:
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.folder / name

    def load(self) -> series.Series:
        return series.load(str(self.folder))

    def names(self) -> list[str]:
        return [patch.name for patch in self.load().patches]

    def applied(self) -> dict[str, bytes]:
        """What the series makes of the base."""
        git(self.tree, "checkout", "-q", "--detach")
        git(self.tree, "branch", "-f", "done")
        git(self.tree, "checkout", "-q", self.base)
        try:
            result = source.resolve(self.tree, self.store)
            return content(source_tree(result, self.load().patches, self.store, Terminal(), self.logs))
        finally:
            git(self.tree, "checkout", "-q", "done")

    def wanted(self) -> dict[str, bytes]:
        """What the commits made."""
        return content(self.tree)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if ".git" not in path.parts)
    return {
        f"{path.relative_to(folder)} {path.stat().st_mode & 0o100}": path.read_bytes()
        for path in files
        if path.is_file()
    }


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr("host_setup.kernel.patches._TREE_NEEDS", 0)
    return Work(tmp_path)


# --- as git writes them -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--cover-letter",),
        ("-v3", "--cover-letter"),
        ("--attach",),
        ("--inline",),
        ("-k",),
        ("--signoff", "--base=HEAD~3"),
    ],
)
def test_what_format_patch_writes_is_applied(work: Work, words: str) -> None:
    work.three()
    work.format(*words)
    assert len(work.names()) == 3
    assert work.applied() == work.wanted()


def test_a_cover_letter_with_what_has_changed_since_is_no_patch(work: Work) -> None:
    work.three()
    git(work.tree, "branch", "before", "HEAD~1")
    work.format("--cover-letter", "--interdiff=before", "-v2")
    assert [name[:7] for name in work.names()] == ["v2-0001", "v2-0002", "v2-0003"]
    assert work.applied() == work.wanted()


def test_a_change_that_a_message_quotes_is_not_applied(work: Work) -> None:
    quoted = "  --- a/mm/gone.c\n  +++ b/mm/gone.c\n  @@ -1 +1 @@\n  -gone\n  +quoted\n"
    work.commit(f"mm: one\n\nThis was tried:\n\n{quoted}", mm__new="new\n")
    work.format()
    assert work.applied() == work.wanted()


def test_renames_modes_links_empty_files_and_removals(work: Work) -> None:
    (work.tree / "mm/old.c").rename(work.tree / "mm/renamed.c")
    work.commit("rename")
    (work.tree / "mm/renamed.c").write_text("".join([*LINES[:-1], "changed\n"]))
    (work.tree / "mm/renamed.c").rename(work.tree / "mm/again.c")
    (work.tree / "mm/memory.c").chmod(0o755)
    (work.tree / "mm/link.c").symlink_to("memory.c")
    work.commit("rename and change", mm__empty="", mm__gone=None)
    work.format("-M", "-C")
    assert work.applied() == work.wanted()


@pytest.mark.parametrize("words", [("--stdout",), ()])
def test_a_file_that_is_no_text_is_changed_too(work: Work, words: str) -> None:
    (work.tree / "mm/logo.bin").write_bytes(bytes(range(255, -1, -1)) * 3)
    (work.tree / "mm/new.bin").write_bytes(b"\0\1\2" * 100)
    work.commit("logo", mm__memory="".join(["first\n", *LINES[1:]]))
    (work.tree / "mm/new.bin").unlink()
    work.commit("no logo", mm__memory="".join(["second\n", *LINES[1:]]))
    if words:
        work.put("all.mbox", work.mailbox())
    else:
        work.format()
    assert work.applied() == work.wanted()


def test_git_applies_to_the_tree_and_not_to_a_repository_around_the_cache(work: Work, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (work.tree / "mm/logo.bin").write_bytes(b"\0new")
    work.commit("logo")
    work.format()
    assert work.applied() == work.wanted()


def test_a_binary_change_leaves_the_tree_it_came_from_as_it_was(work: Work) -> None:
    (work.tree / "mm/logo.bin").write_bytes(b"\0new")
    work.commit("logo", mm__memory="changed\n")
    git(work.tree, "checkout", "-q", work.base)
    result = source.resolve(work.tree, work.store)
    pristine = source_tree(result, (), work.store, Terminal(), work.logs)
    before = content(pristine)
    git(work.tree, "checkout", "-q", "-")
    work.format()
    work.applied()
    assert content(pristine) == before


def test_a_binary_change_without_its_content_is_refused(work: Work) -> None:
    (work.tree / "mm/logo.bin").write_bytes(b"\0new")
    work.commit("logo", mm__memory="changed\n")
    work.put("a.diff", git(work.tree, "diff", work.base))
    with pytest.raises(UserInputError, match=r"changes a binary file but lacks its content: .*mm/logo\.bin"):
        work.load()


@pytest.mark.parametrize("was_there", [False, True])
def test_a_submodule_is_refused_as_a_patch_has_only_its_name(work: Work, *, was_there: bool) -> None:
    """GNU patch would write the commit's name into a file."""
    for commit in ("1" * 40, "2" * 40)[: 1 + was_there]:
        git(work.tree, "update-index", "--add", "--cacheinfo", f"160000,{commit},drivers/mine")
        git(work.tree, "commit", "-qm", "mine")
    work.put("a.patch", git(work.tree, "format-patch", "-1", "--stdout"))
    with pytest.raises(UserInputError, match="changes a submodule, whose content no patch holds"):
        work.load()


@pytest.mark.parametrize("suffix", ["diff", "patch"])
@pytest.mark.parametrize("words", [(), ("--no-prefix",), ("--src-prefix=i/", "--dst-prefix=w/")])
def test_a_plain_diff_with_prefixes_or_without_is_applied(work: Work, suffix: str, words: str) -> None:
    work.three()
    work.commit("nested", mm__memory="x\n", mm__gone=None)
    work.put(f"all.{suffix}", git(work.tree, "diff", *words, work.base))
    assert work.applied() == work.wanted()


def test_a_diff_of_two_folders_is_applied(work: Work, tmp_path: Path) -> None:
    work.three()
    subprocess.run(["cp", "-r", str(work.tree), str(tmp_path / "new")], check=True)
    git(work.tree, "branch", "end")
    git(work.tree, "checkout", "-q", work.base)
    subprocess.run(["cp", "-r", str(work.tree), str(tmp_path / "orig")], check=True)
    git(work.tree, "checkout", "-q", "end")
    for options in ("-ruN", "-rcN"):
        argv = ["diff", options, "--exclude=.git", "orig", "new"]
        output = subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).stdout
        work.put("all.diff", output)
        assert work.applied() == work.wanted()


@pytest.mark.parametrize("words", [(), ("--no-prefix",)])
def test_a_diff_that_only_adds_files_is_applied(work: Work, words: str) -> None:
    work.commit("new", mm__new="new\n")
    output = git(work.tree, "diff", *words, work.base)
    for text in (output, output[output.index("--- ") :]):
        work.put("all.diff", text)
        assert work.applied() == work.wanted()


def test_commits_in_one_diff_after_each_other_are_applied(work: Work) -> None:
    work.three()
    work.put("all.diff", git(work.tree, "log", "-p", "--reverse", "--format=medium", f"{work.base}.."))
    assert work.applied() == work.wanted()


@pytest.mark.parametrize("words", [("-c",), ("--cc",), ("-m",)])
def test_a_merge_is_refused_or_applied_but_not_passed_over(work: Work, words: tuple[str, ...]) -> None:
    work.commit("one", mm__memory="".join(["first\n", *LINES[1:]]))
    git(work.tree, "checkout", "-q", "-b", "side", work.base)
    work.commit("two", mm__memory="".join([*LINES[:-1], "last\n"]), mm__new="new\n")
    git(work.tree, "merge", "-q", "--no-edit", "-", "-s", "ours")
    (work.tree / "mm/memory.c").write_text("".join(["merged\n", *LINES[1:-1], "merged\n"]))
    git(work.tree, "commit", "-q", "--amend", "--all", "--no-edit")
    work.put("all.diff", git(work.tree, "log", "-p", *words, "--reverse", f"{work.base}.."))
    with pytest.raises(SealproofError, match="holds a merge" if words != ("-m",) else "does not apply"):
        work.applied()


def test_a_patch_that_is_cut_off_is_refused(work: Work) -> None:
    work.three()
    work.commit("last", zz="x\n", mm__old="changed\n")
    text = git(work.tree, "diff", work.base)
    last = text.rindex("diff --git")
    whole = text.index("\n", text.rindex("@@ -"))
    for end in (text.index("\nindex", last) + 20, text.index("\n---", last), *range(text.index("+++", last), whole, 4)):
        work.put("all.diff", text[:end])
        with pytest.raises(UserInputError, match="is truncated"):
            work.load()
    work.put("all.diff", text[:-4])
    with pytest.raises(SealproofError):
        work.applied()


def test_empty_files_at_the_end_are_not_cut_off(work: Work) -> None:
    work.commit("empty", zz="")
    work.put("all.diff", git(work.tree, "diff", work.base))
    assert work.applied() == work.wanted()
    work.put("all.diff", git(work.tree, "diff", "HEAD", work.base))
    work.base = git(work.tree, "rev-parse", "HEAD").strip()
    git(work.tree, "rm", "-q", "zz.c")
    work.commit("gone")
    assert work.applied() == work.wanted()


# --- mailboxes --------------------------------------------------------------------------------------------------------


NAMES = ("all.mbx", "all.patch", "0001-all.patch", "v2_20240101_a_b.mbx", "ALL.MBOX")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, ()) for name in NAMES),
        *(("all.mbox", words) for words in ((), ("--cover-letter",), ("-v2",), ("-k",))),
    ],
)
def test_a_mailbox_is_applied_commit_by_commit(work: Work, name: str, words: str) -> None:
    work.three()
    work.put(name, work.mailbox(*words))
    patches = work.load().patches
    assert [patch.name.partition(":")[2][:4] for patch in patches] == ["0001", "0002", "0003"]
    assert "mm: two ünd" in patches[1].name
    assert len({patch.sha256 for patch in patches}) == 3
    assert work.applied() == work.wanted()


def test_blank_lines_before_a_mailbox_do_not_make_one_patch_of_it(work: Work) -> None:
    work.three()
    work.put("all.mbox", b"\n\n" + work.mailbox("--cover-letter"))
    assert len(work.names()) == 3
    assert work.applied() == work.wanted()


def test_answers_in_a_mailbox_are_no_patches_and_numbers_say_the_order(work: Work) -> None:
    work.three()
    mails = [f"From {mail}" for mail in work.mailbox("--cover-letter").decode().split("\nFrom ")[1:]]
    assert len(mails) == 3
    start = "From a@b Mon Sep 17 00:00:00 2001\nFrom: c@d\nDate: Mon, 17 Sep 2001 00:00:00 +0000\n"
    better = "diff --git a/mm/gone.c b/mm/gone.c\n--- a/mm/gone.c\n+++ b/mm/gone.c\n@@ -1 +1 @@\n-gone\n+better\n"
    answer = f"{start}Subject: Re: [PATCH 1/3] mm: one\n\n> quoted\n\n{better}"
    thanks = f"{start}Subject: [GIT PULL] thanks\n\nApplied.\n"
    work.put("thread.mbox", "\n".join([mails[2], answer, mails[0], thanks, mails[1], ""]))
    assert [name.split(" ", 2)[2] for name in work.names()] == ["1/3] mm: one", "2/3] mm: two ünd", "3/3] mm: three"]
    assert work.applied() == work.wanted()


def test_a_mailbox_with_two_versions_is_refused(work: Work) -> None:
    work.three()
    work.put("thread.mbox", work.mailbox() + work.mailbox("-v2"))
    with pytest.raises(UserInputError, match="versions 1 and 2"):
        work.load()


def test_a_mailbox_with_a_patch_twice_is_refused(work: Work) -> None:
    work.three()
    work.put("thread.mbox", work.mailbox() * 2)
    with pytest.raises(UserInputError, match=r"a patch twice: \[PATCH 1/3\] mm: one"):
        work.load()


def test_two_series_in_one_mailbox_are_applied_one_after_the_other(work: Work) -> None:
    work.three()
    first, work.base = work.mailbox(), git(work.tree, "rev-parse", "HEAD").strip()
    work.commit("mm: four", mm__new="newer\n")
    work.commit("mm: five", mm__new="newest\n")
    work.commit("mm: six", mm__new="last\n")
    base = git(work.tree, "rev-parse", f"{work.base}~3").strip()
    work.put("both.mbox", first + work.mailbox())
    work.base = base
    assert len(work.names()) == 6
    assert work.applied() == work.wanted()


def test_a_numbered_mail_of_a_mailbox_without_its_change_is_refused(work: Work) -> None:
    work.three()
    mails = work.mailbox().decode().split("\nFrom ")
    mails[1] = mails[1].partition("\n---\n")[0] + "\n"
    work.put("all.mbox", "\nFrom ".join(mails))
    with pytest.raises(UserInputError, match=r"a patch holds no change: \[PATCH 2/3\]"):
        work.load()


# --- mails ------------------------------------------------------------------------------------------------------------


def encode(mail: bytes, how: str) -> bytes:
    head, _, body = mail.partition(b"\n\n")
    head = b"\n".join(line for line in head.split(b"\n") if not line.lower().startswith((b"content-", b"mime-")))
    body = base64.encodebytes(body) if how == "base64" else quopri.encodestring(body)
    kind = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: "
    return head + b"\n" + kind + how.encode() + b"\n\n" + body


@pytest.mark.parametrize("how", ["base64", "quoted-printable"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("boxed", [True, False])
def test_an_encoded_mail_is_applied(work: Work, how: str, newline: bytes, *, boxed: bool) -> None:
    work.three()
    mails = [b"From " + mail for mail in (b"\n" + work.mailbox()).split(b"\nFrom ")[1:]]
    mails = [encode(mail, how).rstrip(b"\n") + b"\n\n" for mail in mails]
    if boxed:
        work.put("all.mbox", b"".join(mails).replace(b"\n", newline))
    else:
        for number, mail in enumerate(mails):
            work.put(f"{number}.eml", mail.partition(b"\n")[2].replace(b"\n", newline))
    assert work.applied() == work.wanted()


def test_a_patch_with_the_line_ends_of_windows_is_applied(work: Work) -> None:
    work.three()
    for file in work.format():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert work.applied() == work.wanted()


def test_a_patch_of_a_file_with_the_line_ends_of_windows_is_applied(work: Work) -> None:
    work.commit("dos", mm__dos=b"one\r\ntwo\r\n")
    work.base = git(work.tree, "rev-parse", "HEAD").strip()
    work.commit("dos again", mm__dos=b"one\r\nTWO\r\n", mm__new=b"x\r\n")
    work.put("all.mbox", work.mailbox())
    assert work.applied() == work.wanted()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_patch_that_a_shell_of_windows_has_saved_is_applied(work: Work, encoding: str) -> None:
    work.three()
    work.put("all.diff", git(work.tree, "diff", work.base).replace("\n", "\r\n").encode(encoding))
    assert work.applied() == work.wanted()


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_compressed_mailbox_is_applied(work: Work, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    work.three()
    file = work.put(f"t.mbox{suffix}", pack(work.mailbox()))
    assert work.applied() == work.wanted()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserInputError, match="cannot be decompressed"):
        work.load()


# --- quilt ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "patches"])
def test_a_quilt_series_says_which_in_which_order_and_how_deep(work: Work, where: str) -> None:
    work.three()
    patch_file, two, three = work.format()
    folder = work.folder / where
    (folder / "sub").mkdir(parents=True)
    patch_file.rename(folder / "z.patch")
    (folder / "sub/y.patch").write_text(git(work.tree, "diff", "--no-prefix", "HEAD~2", "HEAD~1"))
    two.unlink()
    deeper = git(work.tree, "diff", "--src-prefix=a/linux/", "--dst-prefix=b/linux/", "HEAD~1")
    (folder / "x").write_text(deeper)
    three.unlink()
    (folder / "off.patch").write_text("not in use")
    listed = "\ufeff# a comment\n\nz.patch -p1 # mine\n  sub/y.patch -p0\n# off.patch\nx -p2\n"
    (folder / "series").write_text(listed)
    assert work.names() == ["z.patch", "sub/y.patch", "x"]
    assert work.applied() == work.wanted()


def test_the_depth_of_a_quilt_series_makes_another_kernel(work: Work) -> None:
    work.put("a.patch", "--- a/mm/mm/new.c\n+++ b/mm/mm/new.c\n@@ -0,0 +1 @@\n+new\n")
    keys = set()
    for options in ("", "-p1", "-p2"):
        work.put("series", f"a.patch {options}\n")
        keys.add(tuple(work.load().patches[0].inputs))
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ("a.patch -R\n", "only -pN is supported"),
        ("my change.patch\n", "a name that is listed has no blanks"),
        ("+mine a.patch\n", "+mine is a guard"),
        ("a.patch\na.patch\n", "lists a.patch twice"),
        ("b.patch\n", "b.patch cannot be read: No such file"),
        ("# nothing\n", "series lists no patch"),
    ],
)
def test_a_quilt_series_that_cannot_be_followed_is_one_line(work: Work, listed: str, words: str) -> None:
    work.put("a.patch", "--- a/mm/gone.c\n+++ b/mm/gone.c\n@@ -1 +1 @@\n-gone\n+new\n")
    work.put("series", listed)
    with pytest.raises(UserInputError) as caught:
        work.load()
    assert words in str(caught.value)


# --- what else is in a folder -----------------------------------------------------------------------------------------


def test_what_editors_and_tools_leave_is_no_patch(work: Work) -> None:
    work.three()
    patch_file, *_ = work.format()
    for name in (".x.patch", ".x.patch.swp", "#x.patch#", "x.patch~", "x.patch.orig", "x.patch.rej", "x.patch.bak"):
        work.put(name, patch_file.read_bytes())
    (work.folder / ".#x.patch").symlink_to("somebody@here.1234:56")
    (work.folder / ".pc").mkdir()
    work.put("README.md", "Apply with\n\n    diff --git a/x b/x\n")
    work.put("series.cover", "Subject: [PATCH 0/3] all\n\nWhy.\n")
    assert len(work.names()) == 3
    assert work.applied() == work.wanted()


def test_numbers_without_zeros_are_numbers(work: Work) -> None:
    for number in (1, 2, 9, 10, 11):
        work.put(f"{number}-x.patch", f"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-{number}\n+x\n")
    assert [name.partition("-")[0] for name in work.names()] == ["1", "2", "9", "10", "11"]


CHANGE = b"--- a/mm/x.c\n+++ b/mm/x.c\n@@ -1 +1 @@\n-x\n+if (x &lt; y)\n"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: file.mkdir(), "is named like a patch, but is not a file"),
        (lambda file: file.symlink_to(file), "cannot be read: Too many levels"),
        (lambda file: file.symlink_to("nowhere"), "cannot be read: No such file"),
        (os.mkfifo, "is not a file"),
        (lambda file: file.write_text(""), "is empty"),
        (lambda file: file.write_text("Subject: [PATCH] mm: lost\n\nIts change.\n"), "holds no change"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "damaged UTF-16"),
        (lambda file: file.write_bytes(gzip.compress(CHANGE)), "is packed, but is not named like that"),
        (lambda file: file.write_bytes(b"<!DOCTYPE html>\n<pre>\n" + CHANGE + b"</pre>\n"), "is a web page"),
        (lambda file: file.write_bytes(b"Content-Type: text/html\nSubject: x\n\n" + CHANGE), "is a web page"),
    ],
)
@pytest.mark.parametrize("name", ["0002-x.patch", "x.diff", "x.mbx"])
def test_what_is_named_as_a_patch_and_is_none_is_one_line(
    work: Work, make: Callable[[Path], None], words: str, name: str
) -> None:
    work.three()
    work.format()
    make(work.folder / name)
    with pytest.raises(UserInputError) as caught:
        work.load()
    assert words in caught.value.message
    assert str(work.folder / name) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["0004-mm-four", "0004-mm-four.txt", "four.patch.txt", "mine.config"])
def test_what_may_have_been_meant_and_is_not_used_is_refused(work: Work, name: str) -> None:
    work.three()
    patch_file, *_ = work.format()
    work.put(name, patch_file.read_bytes())
    with pytest.raises(UserInputError, match=f"{name}.*(not named like one|is not used)"):
        work.load()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "0003-x.patch.zst": lambda content: b"\x28\xb5\x2f\xfd" + content,
    "0003-x.patch.lz4": lambda content: b"\x04\x22\x4d\x18" + content,
    "0003-x.patch.gz.gz": gzip.compress,
    "rest.tar.gz": gzip.compress,
    "rest.zip": lambda content: b"PK\3\4" + content,
    "rest.tar": lambda content: b"0003-x.patch".ljust(257, b"\0") + b"ustar\0" + content,
    "rest.bundle": lambda content: b"# v2 git bundle\n" + content,
}


@pytest.mark.parametrize("name", PACK)
def test_what_is_packed_is_not_left_out_without_a_word(work: Work, name: str) -> None:
    work.three()
    *_, last = work.format()
    work.put(name, PACK[name](last.read_bytes()))
    last.unlink()
    with pytest.raises(UserInputError, match=f"{name} is packed, and not looked into"):
        work.load()


def test_two_versions_in_a_folder_are_refused(work: Work) -> None:
    work.three()
    work.format()
    git(work.tree, "commit", "-q", "--amend", "-m", "mm: three, another name")
    work.format("-v2")
    with pytest.raises(UserInputError, match=r"0001-mm-one.patch and v2-0001-mm-one.patch are versions 1 and 2"):
        work.load()


def test_a_change_that_was_reverted_may_be_made_again(work: Work) -> None:
    for first in ("first\n", LINES[0], "first\n"):
        work.commit("mm: back and forth", mm__memory="".join([first, *LINES[1:]]))
    work.format()
    assert len(work.names()) == 3
    assert work.applied() == work.wanted()


def test_a_copy_that_comes_last_is_refused(work: Work) -> None:
    work.three()
    patch_file, *_ = work.format()
    work.put("Copy of 0001.patch", patch_file.read_bytes())
    with pytest.raises(UserInputError, match=r"0001-mm-one.patch and Copy of 0001.patch hold the same change"):
        work.load()


def test_a_copy_of_a_patch_is_refused(work: Work) -> None:
    work.three()
    _, two, _ = work.format()
    work.put("0002-copy (1).patch", two.read_bytes().replace(b"PATCH 2/3", b"PATCH"))
    with pytest.raises(UserInputError, match=r"0002-copy \(1\).patch and 0002-.*.patch hold the same change"):
        work.load()


def test_commits_of_one_name_are_not_versions(work: Work) -> None:
    for number in (1, 2, 3):
        work.commit("mm: fix", mm__memory=f"{number}\n")
    work.format("-v2")
    assert work.applied() == work.wanted()


def test_patches_beside_a_quilt_folder_are_not_left_out_without_a_word(work: Work) -> None:
    work.three()
    patch_file, two, _ = work.format()
    (work.folder / "patches").mkdir()
    patch_file.rename(work.folder / "patches" / patch_file.name)
    (work.folder / "patches/series").write_text(f"{patch_file.name}\n")
    with pytest.raises(UserInputError, match=f"{two.name} is not used: .*/patches/series says which are"):
        work.load()


@pytest.mark.parametrize("files", [(), ("notes.txt",), ("0000-cover-letter.patch",)])
def test_a_folder_without_a_patch_is_refused_unless_it_says_so(work: Work, files: dict[str, str]) -> None:
    for name in files:
        work.put(name, "Subject: [PATCH 0/3] all\n\nWhy.\n")
    with pytest.raises(UserInputError, match="holds no patch") as caught:
        work.load()
    assert ".mbox" in caught.value.hint
    work.put("series.toml", TOML + 'patches = "none"\n')
    assert work.load().patches == ()
    work.put("a.patch", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n")
    with pytest.raises(UserInputError, match="but there are 1"):
        work.load()


def test_a_patch_may_have_any_name(work: Work) -> None:
    work.three()
    for number, file in enumerate(work.format()):
        odd = os.fsdecode(f"{number} it's \n".encode() + b"caf\xe9.patch")
        file.rename(work.folder / odd)
    assert all(name.isprintable() and name.encode() for name in work.names())
    assert work.applied() == work.wanted()


@pytest.mark.parametrize(
    ("before", "after"), [("a", "b"), ("mm", "mm"), ("/dev/null\n+++ b/mm/new\n@@ -0,0 +1 @@\n+x\n--- a", "b")]
)
def test_a_patch_cannot_reach_out_of_the_tree(work: Work, tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "mine").write_text("mine\n")
    work.put("a.patch", f"--- {before}/../../../mine\n+++ {after}/../../../mine\n@@ -1 +1 @@\n-mine\n+theirs\n")
    with pytest.raises(UserInputError, match=r"a\.patch changes a file outside of the kernel's tree: \S*mine"):
        work.applied()
    assert (tmp_path / "mine").read_text() == "mine\n"


def test_a_mailbox_that_does_not_apply_says_which_mail_and_repeats_it(work: Work, tmp_path: Path) -> None:
    work.three()
    work.put("all.mbox", work.mailbox().replace(b"-first", b"-other"))
    with pytest.raises(KernelError) as caught:
        work.applied()
    shown = str(caught.value)
    assert "all.mbox:0002 [PATCH 2/3] mm: two ünd does not apply" in shown
    assert "-other\n+second" in shown
    script = Path(caught.value.hint.split("this repeats the error: sh ")[1])
    text = script.read_text().replace("/tmp/patched", str(tmp_path / "again"))
    again = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "Hunk #1 FAILED at 1" in again.stdout


def test_a_patch_names_the_text_files_that_it_writes() -> None:
    hunk = b"@@ -1,1 +1,1 @@\n--- a/removed.c\n+++ b/added.c\n"  # lines of text that look like names
    change = b"--- a/mm/one.c\n+++ b/mm/one.c\n" + hunk + b"--- /dev/null\n+++ b/mm/new.h\t2026\n@@ -0,0 +1 @@\n+x\n"
    change += b"--- a/gone.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n--- no/prefix.c\n+++ no/prefix.c\n" + hunk
    assert Patch("x", b"", change).written == {"mm/one.c", "mm/new.h", "no/prefix.c"}


# --- names with other folders in front --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--no-prefix",),
        ("--src-prefix=old/", "--dst-prefix=new/"),
        ("--src-prefix=x/y/", "--dst-prefix=x/y/"),
        ("--src-prefix=a/linux/", "--dst-prefix=b/linux/"),
    ],
)
def test_names_may_have_any_folders_in_front(work: Work, words: tuple[str, ...]) -> None:
    """Also of changes that show their names in git's header alone."""
    (work.tree / "mm/memory.c").chmod(0o755)
    git(work.tree, "mv", "mm/old.c", "mm/moved.c")
    (work.tree / "mm/empty.c").touch()
    (work.tree / "virt").mkdir()
    work.commit("all", virt__new="new\n", mm__größe="new\n", mm__gone="other\n")
    if "x/y/" in words[0]:  # without the header of a new file nothing tells these folders from the tree's own
        git(work.tree, "rm", "-q", "virt/new.c", "mm/empty.c", "mm/größe.c")
        git(work.tree, "commit", "-qm", "less", "--amend")
    work.format(*words)
    assert work.applied() == work.wanted()


@pytest.mark.parametrize("words", [(), ("--no-prefix",)])
@pytest.mark.parametrize("make", ["empty", "new", "mode", "rename"])
def test_what_a_patch_names_in_gits_header_alone_comes_to_its_place(
    work: Work, words: tuple[str, ...], make: str
) -> None:
    (work.tree / "virt").mkdir()
    if make == "empty":
        (work.tree / "mm/empty.c").touch()
    elif make == "new":
        (work.tree / "virt/new.c").write_text("new\n")
    elif make == "mode":
        (work.tree / "mm/old.c").chmod(0o755)
    else:
        git(work.tree, "mv", "mm/old.c", "virt/old.c")
    work.commit("one")
    work.format(*words)
    assert work.applied() == work.wanted()


def test_a_file_of_the_same_name_in_another_folder_is_not_taken_for_it(work: Work) -> None:
    (work.tree / "tools/mm").mkdir(parents=True)
    work.commit("tools", tools__other="other\n")
    base = git(work.tree, "rev-parse", "HEAD").strip()
    work.commit("tools: mm", tools__mm__memory="".join(LINES))
    work.base = git(work.tree, "rev-parse", "HEAD").strip()
    work.commit("tools: change", tools__mm__memory="".join(["first\n", *LINES[1:]]))
    work.format("--no-prefix")
    assert work.applied() == work.wanted()
    work.base = base
    with pytest.raises(KernelError, match=r"the source has no tools/mm/memory\.c"):
        work.applied()


@pytest.mark.parametrize("where", ["beside", "whole path", "from below"])
@pytest.mark.parametrize("how", [("git", "diff", "--no-index"), ("diff", "-urN")])
def test_a_diff_of_two_folders_anywhere_is_applied(
    work: Work, tmp_path: Path, where: str, how: tuple[str, ...]
) -> None:
    git(work.tree, "checkout-index", "--all", f"--prefix={tmp_path}/before/")
    work.three()
    git(work.tree, "checkout-index", "--all", f"--prefix={tmp_path}/after/")
    (tmp_path / "below").mkdir()
    names, folder = {
        "beside": (["before", "after"], tmp_path),
        "whole path": ([str(tmp_path / "before"), str(tmp_path / "after")], Path("/")),
        "from below": (["../before", "../after"], tmp_path / "below"),
    }[where]
    done = subprocess.run([*how, *names], cwd=folder, capture_output=True, check=False)
    work.put("1.diff", done.stdout)
    assert work.applied() == work.wanted()


def test_a_diff_against_a_copy_beside_the_file_is_applied(work: Work) -> None:
    work.commit("mm: one", mm__memory="".join(["first\n", *LINES[1:]]))
    (work.tree / "mm/memory.c.orig").write_text("".join(LINES))
    words = ["diff", "-u", "mm/memory.c.orig", "mm/memory.c"]
    work.put("1.diff", subprocess.run(words, cwd=work.tree, capture_output=True, check=False).stdout)
    (work.tree / "mm/memory.c.orig").unlink()
    assert work.applied() == work.wanted()


def test_names_below_a_folder_of_the_tree_are_told_with_that_folder(work: Work) -> None:
    work.commit("mm: one", mm__memory="first\n")
    work.format("--relative=mm")
    with pytest.raises(KernelError, match=r"the source has no memory\.c[^+]*next: its names begin at mm/"):
        work.applied()


@pytest.mark.parametrize(
    "names", [("{tree}/mm/memory.c", "{tree}/mm/memory.c"), ("/dev/null", "/dev/null"), ("[", "[")]
)
def test_names_that_are_none_in_a_tree_do_not_apply(work: Work, names: tuple[str, str]) -> None:
    old, new = (name.format(tree=work.tree) for name in names)
    work.put("1.diff", f"--- {old}\n+++ {new}\n@@ -1 +1 @@\n-one\n+two\n".encode())
    with pytest.raises((KernelError, UserInputError)):
        work.applied()


@pytest.mark.parametrize("prefix", ["a/", "w/", ""])
def test_the_files_that_a_patch_writes_are_named_as_in_the_tree(work: Work, prefix: str) -> None:
    work.three()
    (work.tree / "mm/gone.c").unlink()
    work.commit("mm: rest", mm__empty="")
    work.format(f"--src-prefix={prefix}", f"--dst-prefix={prefix.replace('a', 'b').replace('w', 'i')}")
    files = {name for patch in work.load().patches for name in patch.written}
    assert files == {"mm/memory.c", "mm/new.c"}


# --- what does not apply ----------------------------------------------------------------------------------------------


def test_a_patch_that_the_series_lacks_is_named(work: Work) -> None:
    work.three()
    work.format()[0].unlink()
    with pytest.raises(KernelError, match="next: add patch 1 of 3, which is not in the series"):
        work.applied()


def test_a_series_in_the_wrong_order_says_so(work: Work) -> None:
    work.three()
    for number, file in enumerate(reversed(work.format())):
        file.rename(work.folder / f"{number}-{file.name}")
    with pytest.raises(
        KernelError, match="next: name the files in the order in which they apply: this is patch 3 of 3"
    ):
        work.applied()


def test_a_mail_whose_blanks_were_changed_on_the_way_says_so(work: Work) -> None:
    work.commit("mm: one", mm__memory="".join(["first\n", *LINES[1:]]))
    head = "From: a\nSubject: one\nContent-Type: text/plain;\n charset=utf-8; format=flowed\n\n"
    work.put("1.eml", head + git(work.tree, "diff", work.base).replace("\n ", "\n  "))
    with pytest.raises(KernelError, match="format=flowed has other blanks"):
        work.applied()


def test_a_mailbox_that_lacks_a_patch_is_refused(work: Work) -> None:
    for number in (1, 2, 3):
        work.commit(f"mm: {number}", **{f"mm__n{number}": "new\n"})
    whole = work.mailbox()
    mails = [b"From " + mail for mail in whole.split(b"From ") if b"\nSubject: " in mail]
    for lost in range(3):
        work.put("1.mbx", b"".join(mail for number, mail in enumerate(mails) if number != lost))
        with pytest.raises(UserInputError, match=f"lacks patch {lost + 1} of 3"):
            work.load()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--color=always",), "colours of a terminal"),
        (("--line-prefix=> ",), "its lines begin with '> '"),
        (("--irreversible-delete",), "removes a file but lacks its content"),
    ],
)
def test_a_patch_that_was_not_made_for_a_program_is_one_line(work: Work, words: tuple[str, ...], message: str) -> None:
    work.commit("mm: one", mm__gone=None)
    work.format(*words)
    with pytest.raises(UserInputError, match=message):
        work.load()


def test_an_empty_file_is_removed_by_any_patch(work: Work) -> None:
    work.commit("mm: empty", mm__empty="")
    work.base = git(work.tree, "rev-parse", "HEAD").strip()
    work.commit("mm: no more", mm__empty=None)
    work.format("--irreversible-delete")
    assert work.applied() == work.wanted()


def test_a_guard_of_mercurials_queues_is_refused(work: Work) -> None:
    work.three()
    names = [file.name for file in work.format()]
    work.put("series", f"{names[0]}\n{names[1]} #+x86\n{names[2]} # as +it is\n")
    with pytest.raises(UserInputError, match=r"\+x86 is a guard"):
        work.load()


def test_a_bundle_says_how_it_becomes_patches(work: Work) -> None:
    work.three()
    git(work.tree, "bundle", "create", "-q", str(work.folder / "1.bundle"), f"{work.base}..HEAD")
    with pytest.raises(UserInputError, match="git format-patch"):
        work.load()


@pytest.mark.parametrize("inside", ["v1.patches/new", "v1.patches"])
def test_patches_in_a_folder_of_the_series_are_pointed_out(work: Work, inside: str) -> None:
    work.three()
    git(work.tree, "format-patch", "-q", "-o", str(work.folder / inside), work.base)
    with pytest.raises(UserInputError, match=r"the patches in v1\.patches/ do not count"):
        work.load()


@pytest.mark.parametrize("name", ["v6.12..HEAD", "origin/master..topic", "v6.12...", "origin/a..b/c"])
def test_a_range_of_commits_is_no_series_and_says_how_it_becomes_one(name: str) -> None:
    with pytest.raises(UserInputError, match=r"range of commits[^+]*git format-patch"):
        series.load(name)
