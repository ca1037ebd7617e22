# SPDX-License-Identifier: GPL-2.0-or-later
"""The project's commit, as the report names it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from signoff.record import project_commit


def git(tree: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, "-C", str(tree), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "a.py").write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", text)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project", "ours")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own settings."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path / "home/.gitconfig"


def test_a_change_makes_it_dirty(project: Path) -> None:
    commit = git(project, "rev-parse", "HEAD")
    assert project_commit(project) == commit
    (project / "b.py").write_text("new")
    assert project_commit(project) == f"{commit}-dirty"


def test_a_git_hook_of_another_repository_does_not_count(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = make(tmp_path / "linux", "theirs")
    commit = git(project, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(kernel / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(kernel))
    monkeypatch.setenv("GIT_INDEX_FILE", str(kernel / ".git/index"))
    monkeypatch.setenv("GIT_PREFIX", "mm/")
    assert project_commit(project) == commit


@pytest.mark.parametrize(
    "settings",
    ["[status]\n showUntrackedFiles = no\n", "[core]\n excludesFile = {}/ignored\n", "[status]\n branch = true\n"],
)
def test_the_users_settings_hide_no_change_and_make_none(project: Path, home: Path, settings: str) -> None:
    home.write_text(settings.format(home.parent))
    (home.parent / "ignored").write_text("*.new\n")
    commit = git(project, "rev-parse", "HEAD")
    assert project_commit(project) == commit
    (project / "b.new").write_text("new")
    assert project_commit(project) == f"{commit}-dirty"


def test_settings_of_the_repository_start_no_program(project: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    git(project, "config", "core.fsmonitor", str(program))
    assert not project_commit(project).endswith("-dirty")
    assert not started.exists()


def test_a_copy_inside_of_another_repository_has_no_commit(tmp_path: Path) -> None:
    around = make(tmp_path / "around", "theirs")
    copy = around / "sealproof"
    copy.mkdir()
    (copy / "a.py").write_text("ours")
    assert project_commit(copy) == "unknown"
    (around / ".gitignore").write_text("sealproof\n")
    assert project_commit(copy) == "unknown"


def test_outside_of_git_it_is_unknown(tmp_path: Path) -> None:
    assert project_commit(tmp_path) == "unknown"
