# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a search: so many patches of a series, or the commits of a git tree. Each is a kernel that can be built.

The user's repository is only read: what a commit holds is checked out into a tree of our own, whose repository borrows
the user's objects (gitrepository-layout(5): ``objects/info/alternates``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from common.commands import git
from common.errors import CommandError, UserInputError
from common.names import path_text
from common.paths import expand_home
from common.store import digest
from host_setup.bisect.search import STAGE, Line
from host_setup.kernel import series
from host_setup.kernel.arrival import Patch
from host_setup.kernel.layers import parse
from host_setup.kernel.series import Series
from host_setup.provision import Settings

_NEW_OPTION = re.compile(rb"^\+\s*(?:menu)?config\s+(\w+)\s*$", re.MULTILINE)
_OBJECT_IDS = re.compile(r"^([0-9a-f]{40,64})\b", re.MULTILINE)


class Steps(Protocol):
    """A range of kernels.

    :ivar good: its first step. :ivar bad: its last one. :ivar plural: what they are.
    """

    good: str
    bad: str
    plural: str

    def suspects(self, good: Sequence[str], bad: str) -> Sequence[str]:
        """As of ``search.History``."""

    def in_order(self, steps: Sequence[str]) -> list[str]:
        """Steps in the order in which they came."""

    def name(self, step: str) -> str:
        """A step for people, on one line."""

    def identity(self, step: str) -> str:
        """What is known of a step counts as long as this is the same."""

    def settings(self, step: str) -> Settings:
        """How a user chooses that kernel. It is there until another one is asked for."""


def is_number(text: str) -> bool:
    """Whether it is a number of patches; no commit has so short a name."""
    return re.fullmatch(r"\d{1,4}", text) is not None


def settings_at(settings: Settings, at: str, folder: Path) -> Settings:
    """The settings for so many patches of the series, or for a commit of the tree.

    :param folder: for kernels of our own. :raises UserInputError: there is no such kernel.
    """
    if is_number(at):
        whole = series.load(settings.series)
        return _prefix(settings, whole, _number(at, 0, len(whole.patches), "--at"), folder / "series")
    commit = _repository(settings).commit(at, "--at")
    checkout(_repository(settings), commit, folder / "tree")
    return replace(settings, kernel_source=folder / "tree")


# --- patches of a series ----------------------------------------------------------------------------------------------


class Prefixes(Line):
    """The kernels with so many patches of a series, from the first on.

    :param settings: with the whole series. :param source: what identifies the source that they go on.
    :param good: so many patches; None: none. :param bad: likewise; None: all.
    :param folder: for series of our own.
    :raises UserInputError: there are not so many, or no patch between.
    """

    def __init__(self, settings: Settings, source: str, good: str | None, bad: str | None, folder: Path) -> None:
        self._settings = settings
        self._source = source
        self._series = series.load(settings.series)
        self._folder = folder
        count = len(self._series.patches)
        first, last = _number(good, 0, count, "--good"), _number(bad, count, count, "--bad")
        if first >= last:
            raise UserInputError(
                f"no patch lies between: {first} patches are good and {last} are bad",
                stage=STAGE,
                hint=f"the series {self._series.name} has {count} patches; --good is less than --bad",
            )
        self.good, self.bad = str(first), str(last)
        self.plural = f"patches of {self._series.name}"

    def in_order(self, steps: Sequence[str]) -> list[str]:
        """As of ``Steps``."""
        return sorted(steps, key=int)

    def name(self, step: str) -> str:
        """As of ``Steps``."""
        last = self._series.patches[int(step) - 1].name if int(step) else "no patch"
        return f"{step} of {len(self._series.patches)} patches: {last}"

    def identity(self, step: str) -> str:
        """As of ``Steps``."""
        config = self._series.config
        content = [part for patch in self._series.patches[: int(step)] for part in patch.inputs]
        return digest(self._source, "" if config is None else config.read_bytes(), step, *content)

    def settings(self, step: str) -> Settings:
        """As of ``Steps``."""
        return _prefix(self._settings, self._series, int(step), self._folder)


def _prefix(settings: Settings, whole: Series, count: int, folder: Path) -> Settings:
    """The settings for so many patches of a series, which is written in a folder, in place of what was there."""
    if count == len(whole.patches):
        return settings
    shutil.rmtree(folder, ignore_errors=True)
    place = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', whole.name)}-{count}"
    place.mkdir(parents=True)
    write_prefix(whole, count, place)
    return replace(settings, series=str(place))


def _number(text: str | None, default: int, most: int, option: str) -> int:
    try:
        number = default if text is None else int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise UserInputError(
            f"{option} {path_text(text or '')}: the series has {most} patches",
            stage=STAGE,
            hint=f"{option} is a number of patches, from 0 to {most}; a commit needs a git tree: --kernel TREE",
        )
    return number


def write_prefix(whole: Series, count: int, folder: Path) -> None:
    """Write a series that ends after so many patches, without the options that come with a later one."""
    facts = {"title": whole.title, "base": whole.base, "mode": whole.mode.value, "description": whole.description}
    lines = [f"{name} = {json.dumps(value)}" for name, value in facts.items()]
    (folder / "series.toml").write_text("\n".join([*lines, *([] if count else ['patches = "none"']), ""]), "utf-8")
    names = [_file_name(number, patch) for number, patch in enumerate(whole.patches[:count], 1)]
    for name, patch in zip(names, whole.patches, strict=False):
        (folder / name).write_bytes(patch.change)
    if any(patch.strip is not None for patch in whole.patches[:count]):  # only a quilt series can say so
        levels = (1 if patch.strip is None else patch.strip for patch in whole.patches)
        rows = (f"{name} -p{level}" for name, level in zip(names, levels, strict=False))
        (folder / "series").write_text("\n".join([*rows, ""]), encoding="utf-8")
    if whole.config is not None:
        later = frozenset(
            f"CONFIG_{name.decode()}" for patch in whole.patches[count:] for name in _NEW_OPTION.findall(patch.change)
        )
        text = whole.config.read_text(encoding="utf-8-sig")
        config_lines = [line for line in text.splitlines() if not later & _options(line)]
        (folder / "series.config").write_text("\n".join([*config_lines, ""]), encoding="utf-8")


def _file_name(number: int, patch: Patch) -> str:
    plain = re.sub(r"[^A-Za-z0-9.-]", "-", patch.name)[:80].strip(".")
    return f"{number:04}-{plain}.patch"


def _options(line: str) -> frozenset[str]:
    try:
        return frozenset(parse(line))
    except ValueError:
        return frozenset()  # who reads it tells what is wrong with it


# --- commits ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository that is only read.

    :ivar path: of the tree, or of a bare repository.
    """

    path: Path

    def ask(self, *words: str) -> str:
        """What git says.

        :raises CommandError: it refuses.
        """
        return git(self.path, *words, stage=STAGE).decode(errors="surrogateescape").strip("\n")

    def commit(self, name: str, option: str) -> str:
        """The commit that a name means.

        :param option: that the user named it with. :raises UserInputError: there is none.
        """
        try:
            return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except CommandError as error:
            raise UserInputError(
                f"{option} {path_text(name)}: {path_text(self.path)} has no such commit", stage=STAGE,
                hint="name a commit, a tag or a branch: 'git log' has them",
            ) from error  # fmt: skip


def _repository(settings: Settings) -> Repository:
    """The git tree that the settings name.

    :raises UserInputError: there is none.
    """
    if not isinstance(settings.kernel_source, Path):
        raise UserInputError("commits need a git tree", stage=STAGE, hint="name it with --kernel PATH")
    repository = Repository(expand_home(settings.kernel_source).absolute())
    try:
        repository.ask("rev-parse", "--git-dir")
    except CommandError as error:
        raise UserInputError(
            f"{path_text(repository.path)} is not a git tree",
            stage=STAGE,
            hint="name a clone of the kernel with --kernel",
        ) from error
    return repository


class Commits:
    """The commits of a git tree that came to one commit, and not to another.

    :param settings: their ``kernel_source`` is the tree. :param good: the name of a commit. :param bad: likewise.
    :param folder: for a tree of our own.
    :raises UserInputError: there are none.
    """

    def __init__(self, settings: Settings, good: str, bad: str, folder: Path) -> None:
        self._repository = _repository(settings)
        self._settings = settings
        self._series = series.load(settings.series)
        self._folder = folder
        self.good, self.bad = self._repository.commit(good, "--good"), self._repository.commit(bad, "--bad")
        if self.good == self.bad or not self._is_before(self.good, self.bad):
            raise UserInputError(
                f"{path_text(good)} does not come before {path_text(bad)}", stage=STAGE,
                hint="--good must be an ancestor of --bad: 'git merge-base' finds one",
            )  # fmt: skip
        self.plural = f"commits of {path_text(self._repository.path)}"

    def suspects(self, good: Sequence[str], bad: str) -> Sequence[str]:
        """As of ``search.History``: git weighs them (git-rev-list(1), ``--bisect-all``)."""
        return self._suspects(tuple(good), bad)

    @lru_cache(maxsize=128)  # noqa: B019  it lives as long as the command
    def _suspects(self, good: tuple[str, ...], bad: str) -> tuple[str, ...]:
        output = self._repository.ask("rev-list", "--bisect-all", bad, *(f"^{commit}" for commit in good), "--")
        commits = _OBJECT_IDS.findall(output)
        return (*(commit for commit in commits if commit != bad), bad)

    def in_order(self, steps: Sequence[str]) -> list[str]:
        """As of ``Steps``."""
        listed = self._repository.ask("rev-list", "--topo-order", "--reverse", self.bad, f"^{self.good}", "--").split()
        place = {commit: at for at, commit in enumerate([self.good, *listed])}
        return sorted(steps, key=lambda step: place.get(step, -1))

    def name(self, step: str) -> str:
        """As of ``Steps``."""
        return path_text(self._repository.ask("show", "--no-patch", "--format=%h %s", step))

    def identity(self, step: str) -> str:
        """As of ``Steps``."""
        content = [part for patch in self._series.patches for part in patch.inputs]
        config = self._series.config
        return digest(step, "" if config is None else config.read_bytes(), *content)

    def settings(self, step: str) -> Settings:
        """As of ``Steps``."""
        checkout(self._repository, step, self._folder)
        return replace(self._settings, kernel_source=self._folder)

    def _is_before(self, step: str, other: str) -> bool:
        try:
            self._repository.ask("merge-base", "--is-ancestor", step, other)
        except CommandError:
            return False
        return True


def checkout(repository: Repository, commit: str, folder: Path) -> None:
    """Make a folder the tree of a commit; files that are right already stay.

    :raises UserInputError: the repository does not hold all of it.
    """
    objects = Path(os.path.abspath(repository.path / repository.ask("rev-parse", "--git-path", "objects")))  # noqa: PTH100
    alternates = folder / ".git/objects/info/alternates"
    content = alternates.read_text(encoding="utf-8", errors="surrogateescape") if alternates.is_file() else ""
    if content != f"{objects}\n":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        form = repository.ask("rev-parse", "--show-object-format")
        git(folder, "init", "--quiet", "--template=", f"--object-format={form}", stage=STAGE)
        alternates.parent.mkdir(parents=True, exist_ok=True)
        alternates.write_text(f"{objects}\n", encoding="utf-8", errors="surrogateescape")
    with contextlib.suppress(FileNotFoundError):
        (folder / ".git/index.lock").unlink()  # of one that was killed
    try:
        git(folder, "checkout", "--quiet", "--force", "--detach", commit, stage=STAGE)
        git(folder, "clean", "--quiet", "-ffdx", stage=STAGE)  # what one that was killed has left
    except CommandError as error:
        raise UserInputError(
            f"{path_text(repository.path)} does not hold all of {commit[:12]}: {' '.join(error.tail.split())}",
            stage=STAGE,
            hint="a partial clone has to be completed first: git fetch --refetch --no-filter",
        ) from error
