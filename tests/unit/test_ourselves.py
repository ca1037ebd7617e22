# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import base64
import hashlib
import importlib.util
import marshal
import os
import struct
import subprocess
from collections.abc import Callable
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from types import CodeType, ModuleType

import pytest
from _pytest.assertion import rewrite

from signoff import ourselves

SHA256 = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two", "three")}


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, content in {
        "conftest.py": "one",
        "signoff/verdict.py": "two",
        "README.md": "three",
        ".gitignore": "hidden.py\n*.log\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "x")
    return folder


def names(listed: str) -> list[str]:
    return [line.partition("  ")[2] for line in listed.splitlines()]


def test_all_files_are_listed_with_what_they_hold(project: Path) -> None:
    listed = ourselves.files_of(project)
    assert names(listed) == [".gitignore", "README.md", "conftest.py", "signoff/verdict.py"]
    assert f"{SHA256['two']}  signoff/verdict.py\n" in listed


def test_a_change_counts_also_where_git_was_told_to_look_away(project: Path) -> None:
    before = ourselves.files_of(project)
    git(project, "update-index", "--assume-unchanged", "signoff/verdict.py")
    (project / "signoff" / "verdict.py").write_text("PASS")
    assert ourselves.files_of(project) != before


def test_git_is_not_asked_whether_files_are_as_committed(project: Path) -> None:
    assert ourselves.are_committed(project, ourselves.files_of(project))
    git(project, "update-index", "--assume-unchanged", "signoff/verdict.py")
    (project / "signoff" / "verdict.py").write_text("PASS")
    assert not ourselves.are_committed(project, ourselves.files_of(project))


def replaced_commit(project: Path) -> None:
    """Git shows another commit under the id of the one that is checked out."""
    (project / "signoff/verdict.py").write_text("PASS")
    git(project, "commit", "--quiet", "-a", "-m", "y")
    git(project, "replace", "HEAD~1", "HEAD")
    git(project, "update-ref", "--no-deref", "HEAD", "HEAD~1")


def replaced_object(project: Path) -> None:
    """The file in which git keeps a folder of the commit holds another folder."""
    old, path = git_output(project, "rev-parse", "HEAD:signoff"), project / "signoff/verdict.py"
    path.write_text("PASS")
    git(project, "add", ".")
    new = git_output(project, "rev-parse", f"{git_output(project, 'write-tree')}:signoff")
    objects = project / ".git/objects"
    (objects / old[:2] / old[2:]).chmod(0o644)
    (objects / old[:2] / old[2:]).write_bytes((objects / new[:2] / new[2:]).read_bytes())
    git(project, "reset", "--quiet", "HEAD")


def linked(project: Path) -> None:
    """A file leads to another, and git is told to look away."""
    path = project / "signoff/verdict.py"
    path.rename(project.parent / "verdict.py")
    path.symlink_to(project.parent / "verdict.py")
    git(project, "update-index", "--skip-worktree", "signoff/verdict.py")


def git_output(project: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(project), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("change", [replaced_commit, replaced_object, linked])
def test_objects_of_git_are_looked_at_by_their_hashes(project: Path, change: Callable[[Path], None]) -> None:
    (project / "a").mkdir()
    (project / "a/b.txt").write_text("x")
    (project / "a.b").symlink_to("a")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "with names that git sorts in its own way")
    assert ourselves.are_committed(project, ourselves.files_of(project))
    change(project)
    assert not ourselves.are_committed(project, ourselves.files_of(project))


@pytest.mark.parametrize(
    "more",
    ["secrets/__init__.py", "secrets.pyc", "secrets.abi3.so", "numpy/x.py", "signoff/x.egg-info/conftest.py",
     "signoff/test_a\nb.py"],
)  # fmt: skip
def test_what_python_or_pytest_would_find_is_in_no_commit(project: Path, more: str) -> None:
    (project / ".git/info").mkdir(exist_ok=True)
    (project / ".git/info/exclude").write_text("*.py\n*.so\n*.pyc\n")
    (project / more).parent.mkdir(exist_ok=True)
    (project / more).write_text("x")
    assert not git_output(project, "status", "--porcelain")
    assert not ourselves.are_committed(project, ourselves.files_of(project))


@pytest.mark.parametrize("more", ["signoff/hidden.py", "tests.py"])
def test_a_file_that_git_is_told_to_ignore_is_in_no_commit(project: Path, more: str) -> None:
    (project / ".git/info").mkdir(exist_ok=True)
    (project / ".git/info/exclude").write_text("tests.py\n")
    (project / more).write_text("x")
    assert not ourselves.are_committed(project, ourselves.files_of(project))


def test_outside_of_git_nothing_is_committed(project: Path, tmp_path: Path) -> None:
    assert not ourselves.are_committed(tmp_path, "")
    (project / ".git").rename(tmp_path / "git")
    assert not ourselves.are_committed(project, ourselves.files_of(project))


def test_code_that_no_list_names_is_told(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ourselves.files_of(project)
    monkeypatch.setattr(ourselves, "files_loaded", lambda: [str(project / "conftest.py"), ourselves.re.__file__])
    monkeypatch.setattr(ourselves.site, "getsitepackages", lambda: [str(tmp_path)])
    assert ourselves.strangers(listed, project, []) == []
    (tmp_path / "patch.pth").write_text("import judge\n")
    assert ourselves.strangers(listed, project, []) == [str(tmp_path / "patch.pth")]
    (tmp_path / "patch.pth").unlink()
    monkeypatch.setattr(ourselves, "files_loaded", lambda: [str(tmp_path / "sitecustomize.py")])
    assert ourselves.strangers(listed, project, []) == [str(tmp_path / "sitecustomize.py")]


@pytest.mark.parametrize("by", ["python", "pytest"])
def test_byte_code_that_is_not_of_its_source_is_told(tmp_path: Path, by: str) -> None:
    source, other = tmp_path / "verdict.py", tmp_path / "other.py"
    source.write_text("def judge(one):\n    assert one\n    return 'FAIL'\n")
    other.write_text("def judge(one):\n    assert one\n    return 'PASS'\n")
    module = ModuleType("verdict")
    module.__file__ = str(source)
    module.__cached__ = importlib.util.cache_from_source(str(source))
    path = Path(module.__cached__)
    if by == "pytest":
        path = path.parent / f"verdict{rewrite.PYC_TAIL}"
    path.parent.mkdir()

    def lay(code: CodeType, flags: int = 0, digest: bytes = b"") -> None:
        stat = source.stat()
        of = digest or struct.pack("<LL", int(stat.st_mtime), stat.st_size)
        path.write_bytes(importlib.util.MAGIC_NUMBER + struct.pack("<L", flags) + of + marshal.dumps(code))

    compiled = (
        ourselves._rewritten
        if by == "pytest"
        else lambda path: compile(path.read_text(), path, "exec", dont_inherit=True)
    )
    assert ourselves.other_byte_code([module]) == []
    lay(compiled(source))
    assert ourselves.other_byte_code([module]) == []
    lay(compiled(other))
    assert ourselves.other_byte_code([module]) == [str(source)]
    os.utime(source, (1, 1))
    assert ourselves.other_byte_code([module]) == []
    now, before = (importlib.util.source_hash(file.read_bytes()) for file in (source, other))
    for flags, digest, code, wrong in (
        (3, now, source, []), (3, now, other, [str(source)]), (3, before, other, []), (1, before, other, [str(source)]),
    ):  # fmt: skip
        lay(compiled(code), flags, digest)
        assert ourselves.other_byte_code([module]) == wrong


def test_the_byte_code_of_this_process_is_of_its_sources() -> None:
    assert ourselves.other_byte_code() == []


def test_what_lies_in_a_folder_of_reports_below_the_top_is_listed(project: Path) -> None:
    for name in ("signoff/reports/test_evil.py", "reports/x.py"):
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text("x")
    assert "signoff/reports/test_evil.py" in names(ourselves.files_of(project))
    assert "reports/x.py" not in names(ourselves.files_of(project))


@pytest.mark.parametrize("more", ["signoff/hidden.py", "hidden.py", "signoff/programs/x.log"])
def test_what_git_ignores_is_listed_where_it_may_decide(project: Path, more: str) -> None:
    (project / more).parent.mkdir(exist_ok=True)
    (project / more).write_text("x")
    assert more in names(ourselves.files_of(project))


@pytest.mark.parametrize("name", ["reports/x/a.py", ".venv/lib/a.py", "signoff/__pycache__/a.pyc", "notes.txt"])
def test_what_decides_nothing_is_not_listed(project: Path, name: str) -> None:
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text("x")
    assert name not in names(ourselves.files_of(project))


def test_without_git_all_files_are_listed(project: Path) -> None:
    before = ourselves.files_of(project)
    subprocess.run(["rm", "-rf", str(project / ".git")], check=True)
    (project / "reports").mkdir()
    (project / "reports" / "x").write_text("x")
    assert ourselves.files_of(project) == before


def install(folder: Path, name: str, code: bytes) -> Distribution:
    """A distribution with one module, as pip installs it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_bytes(code)
    sha256 = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).rstrip(b"=").decode()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{name}.py,sha256={sha256},{len(code)}\n{name}-1.0.dist-info/RECORD,,\n")
    return PathDistribution(info)


def test_packages_are_named_with_version_and_the_hash_of_their_files(tmp_path: Path) -> None:
    package_folder = install(tmp_path, "one", b"1")
    record = hashlib.sha256((tmp_path / "one-1.0.dist-info" / "RECORD").read_bytes()).hexdigest()
    python, package = ourselves.packages([package_folder]).splitlines()
    assert "  python==" in python
    assert package == f"{record}  one==1.0"


def test_the_real_environment_is_named() -> None:
    listed = ourselves.packages()
    assert f"  pytest=={pytest.__version__}\n" in listed
    assert "  sealproof==" not in listed


def test_code_that_is_not_as_it_was_installed_is_named(tmp_path: Path) -> None:
    good, bad = install(tmp_path, "good", b"1"), install(tmp_path, "bad", b"1")
    loaded = [str(tmp_path / "good.py"), str(tmp_path / "bad.py")]
    assert ourselves.find_changed_files([good, bad], loaded) == []
    (tmp_path / "bad.py").write_bytes(b"import os")
    assert ourselves.find_changed_files([good, bad], loaded) == ["bad: bad.py"]
    assert ourselves.find_changed_files([good, bad], loaded[:1]) == []
    (tmp_path / "bad.py").unlink()
    assert ourselves.find_changed_files([good, bad], loaded) == ["bad: bad.py"]


def test_pytests_own_code_is_looked_at() -> None:
    assert pytest.__file__ in set(ourselves.files_loaded())
    assert ourselves.find_changed_files() == []
