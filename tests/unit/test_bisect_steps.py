# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a search: patches of toy series, commits of toy trees."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from common.errors import UserInputError
from host_setup.bisect.search import FirstBad, Search, Vote
from host_setup.bisect.steps import Commits, Prefixes, Repository, checkout, is_number, settings_at
from host_setup.kernel import series
from host_setup.provision import Settings

# --- patches of a series ----------------------------------------------------------------------------------------------


def change(old: int, new: int, path: str = "mm/memory.c") -> str:
    return f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-int memory = {old};\n+int memory = {new};\n"


KCONFIG = "--- a/Kconfig\n+++ b/Kconfig\n@@ -1 +1,2 @@\n line\n+config {name}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A series of four patches; the third one brings an option."""
    folder = tmp_path / "my series"
    folder.mkdir()
    (folder / "series.toml").write_text(
        'title = "A \\"title\\""\nbase = ">=6.12,<6.13"\nmode = "protected"\ndescription = """\nTwo\nlines.\n"""\n'
    )
    for number in (1, 2, 4):
        (folder / f"000{number}-a.patch").write_text(f"Subject: [PATCH {number}/4] a\n\n{change(number, number + 1)}")
    (folder / "0003-b.patch").write_text(KCONFIG.format(name="KVM_NEW"))
    (folder / "series.config").write_text(
        "CONFIG_KVM=y\nCONFIG_KVM_NEW=y  # Linux >=6.2\n# CONFIG_KVM_NEWER is not set\n"
    )
    return folder


def prefixes(folder: Path, work: Path, good: str | None = None, bad: str | None = None) -> Prefixes:
    return Prefixes(Settings(series=str(folder)), "source", good, bad, work)


def test_a_step_is_a_series_with_so_many_patches(folder: Path, tmp_path: Path) -> None:
    steps = prefixes(folder, tmp_path / "work")
    assert (steps.good, steps.bad) == ("0", "4")
    whole = series.load(str(folder))
    for count in (3, 1, 2):
        result = series.load(steps.settings(str(count)).series)
        assert [patch.change for patch in result.patches] == [patch.change for patch in whole.patches[:count]]
        assert (result.title, result.base, result.mode) == (whole.title, whole.base, whole.mode)
        assert result.description == whole.description
        assert len(list((tmp_path / "work").iterdir())) == 1


def test_no_patch_is_a_series_too_and_all_are_the_users_own(folder: Path, tmp_path: Path) -> None:
    steps = prefixes(folder, tmp_path / "work")
    assert series.load(steps.settings("0").series).patches == ()
    assert steps.settings("4").series == str(folder)


def test_an_option_is_asked_for_once_its_patch_is_there(folder: Path, tmp_path: Path) -> None:
    steps = prefixes(folder, tmp_path / "work")
    before = (Path(steps.settings("2").series) / "series.config").read_text()
    assert before == "CONFIG_KVM=y\n# CONFIG_KVM_NEWER is not set\n"
    assert "CONFIG_KVM_NEW=y  # Linux >=6.2" in (Path(steps.settings("3").series) / "series.config").read_text()


def test_a_quilt_series_keeps_its_levels(folder: Path, tmp_path: Path) -> None:
    (folder / "0001-a.patch").write_text(change(1, 2).replace("a/mm", "mm").replace("b/mm", "mm"))
    (folder / "series").write_text("0001-a.patch -p0\n0002-a.patch\n0004-a.patch\n")
    result = series.load(prefixes(folder, tmp_path / "work").settings("2").series)
    assert [patch.strip for patch in result.patches] == [0, 1]


def test_a_mailbox_is_as_many_steps_as_it_has_mails(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.patch"):
        file.unlink()
    mails = (
        f"From 0 Mon Sep 17 00:00:00 2001\nSubject: [PATCH {n}/2] x/y: <z>\n\n---\n{change(n, n + 1)}\n" for n in (1, 2)
    )
    (folder / "all.mbox").write_text("".join(mails))
    steps = prefixes(folder, tmp_path / "work")
    assert steps.bad == "2"
    result = series.load(steps.settings("1").series)
    assert [patch.change.strip() for patch in result.patches] == [change(1, 2).encode().strip()]
    assert "x/y: <z>" in steps.name("1")


def test_what_is_known_of_a_step_ends_with_its_patches(folder: Path, tmp_path: Path) -> None:
    before = [prefixes(folder, tmp_path).identity(str(step)) for step in range(5)]
    assert len(set(before)) == 5
    (folder / "0003-b.patch").write_text(KCONFIG.format(name="OTHER"))
    after = [prefixes(folder, tmp_path).identity(str(step)) for step in range(5)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("5", None, "--good 5: the series has 4 patches"),
        (None, "x", "--bad x: the series has 4 patches"),
        ("3", "3", "no patch lies between: 3 patches are good and 3 are bad"),
        ("3", "1", "no patch lies between"),
    ],
)
def test_a_range_that_is_none_is_told(folder: Path, tmp_path: Path, good: str, bad: str, words: str) -> None:
    with pytest.raises(UserInputError, match=words) as raised:
        prefixes(folder, tmp_path, good, bad)
    assert raised.value.hint


def test_one_kernel_can_be_named(folder: Path, tmp_path: Path) -> None:
    settings = Settings(series=str(folder))
    assert len(series.load(settings_at(settings, "2", tmp_path).series).patches) == 2
    with pytest.raises(UserInputError, match="--at 7: the series has 4 patches"):
        settings_at(settings, "7", tmp_path)
    with pytest.raises(UserInputError, match="commits need a git tree"):
        settings_at(settings, "v6.12", tmp_path)
    assert [is_number(text) for text in ("0", "1234", "12345", "HEAD", "-1", "")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


# --- commits ----------------------------------------------------------------------------------------------------------

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


def git(tree: Path, *words: str) -> str:
    done = subprocess.run(["git", *IDENTITY, "-C", tree, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(tree: Path, words: str) -> str:
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", words)
    return git(tree, "rev-parse", "HEAD")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with ten commits: the file ``number`` says which."""
    folder = tmp_path / "user's tree"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for number in range(10):
        (folder / "number").write_text(f"{number}\n")
        (folder / f"only-{number}").write_text("")
        (folder / f"only-{number - 1}").unlink(missing_ok=True)
        commit(folder, f"commit {number}")
    return folder


def commits(tree: Path, work: Path, good: str = "HEAD~9", bad: str = "HEAD") -> Commits:
    return Commits(Settings(series="stock", kernel_source=tree), good, bad, work)


def state(tree: Path) -> dict[str, tuple[bytes, int]]:
    """All that a folder holds, git's own files too, and when it was written."""
    files = (path for path in tree.rglob("*") if path.is_file())
    return {str(path): (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in files}


def search(steps: Commits, first: int) -> FirstBad:
    search = Search(steps, steps.good, steps.bad)
    votes: dict[str, list[Vote]] = {}
    while not isinstance(step := search.next(votes), FirstBad):
        settings = steps.settings(step)
        assert isinstance(settings.kernel_source, Path)
        number = int((settings.kernel_source / "number").read_text())
        assert sorted(path.name for path in settings.kernel_source.glob("only-*")) == [f"only-{number}"]
        votes.setdefault(step, []).append(Vote.BAD if number >= first else Vote.GOOD)
    return step


def test_the_first_bad_commit_is_found_and_the_users_tree_is_as_it_was(tree: Path, tmp_path: Path) -> None:
    (tree / "number").write_text("changed by the user\n")
    (tree / "new").write_text("the user's own\n")
    before = state(tree)
    steps = commits(tree, tmp_path / "work")
    result = search(steps, 6)
    assert state(tree) == before
    assert steps.name(result.bad).endswith(" commit 6")
    in_order = steps.in_order([result.bad, steps.bad, *result.good])
    assert [steps.name(step).split(maxsplit=1)[1] for step in in_order] == ["commit 5", "commit 6", "commit 9"]


def test_a_bare_repository_and_a_linked_worktree_will_do(tree: Path, tmp_path: Path) -> None:
    git(tree, "clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    git(tree, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "HEAD~3")
    for place in ("bare.git", "linked"):
        steps = commits(tmp_path / place, tmp_path / "work", git(tree, "rev-parse", "HEAD~9"))
        result = search(steps, 4)
        assert steps.name(result.bad).endswith(" commit 4"), place


def test_what_a_killed_checkout_has_left_goes(tree: Path, tmp_path: Path) -> None:
    steps = commits(tree, tmp_path / "work")
    steps.settings(steps.bad)
    (tmp_path / "work/.git/index.lock").touch()
    (tmp_path / "work/half").touch()
    (tmp_path / "work/number").write_text("half")
    steps.settings(steps.bad)
    assert (tmp_path / "work/number").read_text() == "9\n"
    assert not (tmp_path / "work/half").exists()


def test_files_that_are_right_are_not_written_again(tree: Path, tmp_path: Path) -> None:
    (tree / "other").write_text("other\n")
    head = commit(tree, "other")
    (tree / "number").write_text("10\n")
    commit(tree, "commit 10")
    steps = commits(tree, tmp_path / "work")
    steps.settings(steps.bad)
    before = (tmp_path / "work/other").stat().st_mtime_ns
    steps.settings(head)
    assert (tmp_path / "work/number").read_text() == "9\n"
    assert (tmp_path / "work/other").stat().st_mtime_ns == before


def test_another_repository_takes_the_place_of_the_first(tree: Path, tmp_path: Path) -> None:
    commits(tree, tmp_path / "work").settings(git(tree, "rev-parse", "HEAD"))
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "file").write_text("1")
    checkout(Repository(other), commit(other, "one"), tmp_path / "work")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [".git", "file"]


def test_links_and_programs_are_checked_out_as_such(tree: Path, tmp_path: Path) -> None:
    (tree / "link").symlink_to("number")
    (tree / "program").write_text("#!/bin/sh\n")
    (tree / "program").chmod(0o755)
    steps = commits(tree, tmp_path / "work", bad=commit(tree, "more"))
    steps.settings(steps.bad)
    assert (tmp_path / "work/link").readlink() == Path("number")
    assert os.access(tmp_path / "work/program", os.X_OK)


def test_the_users_hooks_and_filters_do_not_run(tree: Path, tmp_path: Path) -> None:
    (tree / ".gitattributes").write_text("number filter=own\n")
    head = commit(tree, "filter")
    git(tree, "config", "filter.own.smudge", "touch ran; cat")
    hook = tree / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    checkout(Repository(tree), head, tmp_path / "work")
    assert not (tmp_path / "work/ran").exists() and not (tree / "ran").exists()


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("nothing", "HEAD", "--good nothing: .* has no such commit"),
        ("HEAD", "--output=x", "--bad --output=x: .* has no such commit"),
        ("HEAD", "HEAD", "HEAD does not come before HEAD"),
        ("HEAD", "HEAD~3", "HEAD does not come before HEAD~3"),
    ],
)
def test_ends_that_are_none_are_told(tree: Path, tmp_path: Path, good: str, bad: str, words: str) -> None:
    with pytest.raises(UserInputError, match=words) as raised:
        commits(tree, tmp_path, good, bad)
    assert raised.value.hint


def test_a_folder_without_git_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserInputError, match="is not a git tree"):
        commits(tmp_path / "plain", tmp_path / "work")


def test_what_a_repository_lacks_is_told(tree: Path, tmp_path: Path) -> None:
    (tree / "big").write_text("something else\n")
    head = commit(tree, "big")
    blob = git(tree, "rev-parse", f"{head}:big")
    (tree / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UserInputError, match="does not hold all of"):
        checkout(Repository(tree), head, tmp_path / "work")


def test_a_thousand_commits_with_merges_are_searched_as_git_would(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    lines = []
    for number in range(1, 1001):
        merge = f"merge :{number - 3}\n" if number % 7 == 0 and number > 3 else ""
        before = f"from :{number - 1}\n" if number > 1 else ""
        lines.append(
            f"commit refs/heads/main\nmark :{number}\ncommitter a <a@b> {number} +0000\ndata <<E\ncommit {number}\nE\n"
            f"{before}{merge}M 644 inline number\ndata <<E\n{number}\nE\n"
        )
    subprocess.run(["git", "-C", folder, "fast-import", "--quiet"], input="".join(lines), text=True, check=True)
    root = git(folder, "rev-list", "--max-parents=0", "main")
    culprit = git(folder, "rev-list", "--grep", "^commit 637$", "main")
    after = {*git(folder, "rev-list", f"^{culprit}", "main", "--ancestry-path").split(), culprit}
    steps = Commits(Settings(series="stock", kernel_source=folder), root, "main", tmp_path / "work")
    find = Search(steps, steps.good, steps.bad)
    votes: dict[str, list[Vote]] = {}
    while not isinstance(step := find.next(votes), FirstBad):
        votes.setdefault(step, []).append(Vote.BAD if step in after else Vote.GOOD)
    assert step.suspects == (culprit,)
    assert len(votes) <= 13
