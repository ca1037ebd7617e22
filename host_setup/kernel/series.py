# SPDX-License-Identifier: GPL-2.0-or-later
"""A patch series: one folder that says what it is, what it goes on, what it needs and what it brings.

::

    series/NAME/series.toml     title, base, mode, description
    series/NAME/series.config   optional: a configuration fragment
    series/NAME/*.patch         as they arrive (see arrival), applied in the order of their names
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from common import releases, toml_file
from common.errors import KernelError, UserInputError
from common.names import path_text
from host_setup.kernel import arrival
from host_setup.kernel.arrival import STAGE, Patch

FOLDER = Path(__file__).with_name("series")
DEFAULT = "protected-memory"
"""The series that is built when none is named."""


class Protection(StrEnum):
    """How a guest is protected on a kernel with the series."""

    PLAIN = "plain"
    PROTECTED = "protected"


class _File(BaseModel):
    """``series.toml``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field(min_length=1)
    base: str
    mode: Protection = Field(strict=False)
    description: str = Field(min_length=1)
    patches: Literal["none"] | None = None

    @field_validator("base")
    @classmethod
    def _base_is_a_range(cls, base: str) -> str:
        releases.check(base)
        return base


@dataclass(frozen=True, slots=True)
class Series:
    """One series.

    :ivar base: the range of kernel releases that it applies to, for instance ``>=6.12,<6.13``.
    :ivar config: its configuration fragment, if it has one. :ivar patches: in the order in which they apply.
    :ivar coverage: what it says of its coverage by claims, if it does (``host_setup/kernel/profile.py``).
    """

    name: str
    title: str
    base: str
    mode: Protection
    description: str
    config: Path | None
    patches: tuple[Patch, ...]
    coverage: Path | None = None

    def check_base(self, release: str) -> None:
        """See whether the series is made for this kernel.

        :raises KernelError: it is not; names both.
        """
        try:
            fits = releases.fits(release, self.base)
        except ValueError as error:
            raise KernelError(str(error), stage=STAGE) from error
        if not fits:
            raise KernelError(
                f"series {self.name} is made for Linux {self.base}, the source is Linux {release}",
                stage=STAGE,
                hint="name a matching source with --kernel, or another series with --series",
            )


def available() -> list[str]:
    """The names of the series that come with the project."""
    return sorted(path.parent.name for path in FOLDER.glob("*/series.toml"))


def load_for(name: str | Path, release: str) -> Series:
    """As :func:`load`; of ours that is not made for that kernel the port ``NAME-...`` that is, if there is one."""
    name = _own_name(name)
    series = load(name)
    if _is_path(name):
        return series
    ports = (load(port) for port in available() if port.startswith(f"{name}-"))
    try:
        return next((port for port in (series, *ports) if releases.fits(release, port.base)), series)
    except ValueError:  # it is no release: check_base() says so
        return series


def _is_path(name: str | Path) -> bool:
    return isinstance(name, Path) or "/" in name


def _own_name(name: str | Path) -> str | Path:
    """The name of a series of ours whose folder's path was given; else what was given."""
    if _is_path(name):
        with contextlib.suppress(OSError, RuntimeError):  # load() says what is wrong
            path = Path(name).expanduser().resolve()
            if path.parent == FOLDER.resolve():
                return path.name
    return name


_RANGE = re.compile(r"[^./]\S*[^/.]\.{2,3}(?![/.])\S*")  # of commits, to git
_EXAMPLE = 'title = "...", base = ">=6.12,<6.13", mode = "protected", description = "..."'


def load(name: str | Path) -> Series:
    """The series of that name, or the one in the folder of that path (a ``Path``, or text with a ``/`` in it).

    :raises UserInputError: there is none, its ``series.toml`` is not right, or a folder of the user's has no patch.
    """
    name = _own_name(name)
    is_path = _is_path(name)
    try:
        folder = Path(name).expanduser().resolve() if is_path else FOLDER / name
        return _load(folder, str(name), is_path=is_path)
    except (OSError, RuntimeError) as error:  # no right to look there; a link in a circle; no such user behind a ~
        raise UserInputError(f"cannot read the series {path_text(name)}: {error}", stage=STAGE) from error


def _load(folder: Path, name: str, *, is_path: bool) -> Series:
    file = folder / "series.toml"
    if not file.is_file():
        raise _no_series(folder, name, is_path=is_path)
    parsed = _parse(file)
    patches = arrival.patches(folder)
    if is_path and not patches and parsed.patches is None:
        there = ", ".join(sorted(path_text(entry.name) for entry in folder.iterdir()))
        raise UserInputError(
            f"{path_text(folder)} holds no patch (it holds {there})",
            stage=STAGE,
            hint=_where_patches_are(folder),
        )
    if patches and parsed.patches == "none":
        raise UserInputError(
            f'{path_text(file)} says patches = "none", but there are {len(patches)}',
            stage=STAGE,
            hint="remove that line",
        )
    config, coverage = folder / "series.config", folder / "coverage.toml"
    if not config.is_file() and (config.exists() or config.is_symlink()):
        raise UserInputError(
            f"{path_text(config)} is not a file", stage=STAGE, hint="write its options there, or remove it"
        )
    return Series(
        name=path_text(folder.name),
        title=parsed.title,
        base=parsed.base,
        mode=parsed.mode,
        description=parsed.description.strip(),
        config=config if config.is_file() else None,
        patches=patches,
        coverage=coverage if coverage.is_file() else None,
    )


def _where_patches_are(folder: Path) -> str:
    inside = next((below for below in sorted(folder.glob("*/")) if arrival.holds_patches(below)), None)
    if inside is not None:
        return f"the patches in {path_text(inside.name)}/ do not count: move them up, or list them in a quilt series"
    return f'patches end in {", ".join(arrival.SUFFIXES)}; a series without patches must say patches = "none"'


def _no_series(folder: Path, name: str, *, is_path: bool) -> UserInputError:
    hint = f"known series: {', '.join(available())}; or give the path of a folder"
    if _RANGE.fullmatch(name) and not folder.exists():
        fault = f"{path_text(name)} is a range of commits; a series is a folder"
        return UserInputError(
            fault, stage=STAGE, hint=f"write its patches: git format-patch -o FOLDER {path_text(name)}"
        )
    if not is_path and not Path(name).is_file():
        meant = f", or ./{path_text(name)} for the folder here" if Path(name).is_dir() else ""
        return UserInputError(f"there is no series {name!r}", stage=STAGE, hint=hint + meant)
    if folder.is_file() or not is_path:
        fault = f"{path_text(folder if is_path else name)} is a file; a series is a folder"
        hint = f"put it into a folder, beside a file series.toml with {_EXAMPLE}, each on a line"
    elif folder.is_dir():
        fault = f"no series at {path_text(folder)}: it has no series.toml"
        hint = f"write it there: {_EXAMPLE}, each on a line"
    else:
        what = "it is no folder" if folder.exists() else "there is no such folder"
        fault = f"no series at {path_text(folder)}: {what}"
    return UserInputError(fault, stage=STAGE, hint=hint)


def _parse(file: Path) -> _File:
    example = FOLDER / "stock" / "series.toml"
    return toml_file.load(file, _File, stage=STAGE, example=_EXAMPLE, hint=f"compare it with {example}")
