# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are: the project's own files, and the folders of the user who runs it.

Standard library alone: ``make doctor`` uses it on a machine where nothing is installed yet.
"""

from __future__ import annotations

import argparse
import errno
import getpass
import os
import re
import secrets
from pathlib import Path

from common.errors import SetupError, UserInputError
from common.names import path_text

PROJECT = Path(__file__).resolve().parent.parent
_LONGEST = 100  # characters of a path in an error's line


def user_folder(variable: str, below_home: str) -> Path:
    """Our folder among the user's own, by the XDG Base Directory Specification.

    :param variable: names the folder that holds ours. A relative path in it does not count, as the specification says.
    :param below_home: takes its place where the variable is not set.
    :raises SetupError: the variable is not set, and the user has no home: a container's uid is often in no passwd.
    """
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():
        return named / "sealproof"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        home_variable = os.environ.get("HOME", "")
        why = (
            f"HOME is {path_text(home_variable)}, not a whole path"
            if home_variable
            else "HOME is not set, and /etc/passwd names none"
        )
        raise SetupError(
            f"the user {user_name()} has no home folder: {why}",
            hint=f"set HOME or {variable} to a writable folder",
        )
    return home / below_home / "sealproof"


def parse_path_elsewhere(text: str) -> Path:
    """A path of another machine from an option's text.

    :raises argparse.ArgumentTypeError: it is empty, as of a shell's variable that is not set; it would be this folder.
    """
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; the folder here is ./")
    return Path(text)


def parse_path(text: str) -> Path:
    """A path from an option's text. There need not be anything.

    :raises argparse.ArgumentTypeError: it is empty; or nothing can be there, or what is there is nothing for this user.
    """
    path = parse_path_elsewhere(text)
    try:
        path.stat()
    except OSError as error:
        # Of these pathlib itself makes errors of several kinds, each in other calls.
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES):
            raise argparse.ArgumentTypeError(f"{_short(text)}: {error.strerror}") from error
    return path


def _short(text: str) -> str:
    return path_text(text if len(text) < _LONGEST else f"{text[:_LONGEST]}...")


def expand_home(path: Path | str) -> Path:
    """A path as a shell would have it, with a home folder in place of ``~`` or ``~USER``.

    :raises UserInputError: there is no such user, or none who has a home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserInputError(
            f"{path}: no home folder is known for {Path(path).parts[0]}", hint="name the whole path"
        ) from error


def parse_user_path(text: str) -> Path:
    """As :func:`parse_path`, absolute, with a home folder in place of ``~``.

    :raises argparse.ArgumentTypeError: it is empty, or there is no such home folder.
    """
    path = parse_path(text)
    try:
        return expand_home(path).absolute()
    except UserInputError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def cache_root() -> Path:
    """The cache folder: ``sealproof`` below ``XDG_CACHE_HOME``, or ``~/.cache``.

    :raises SetupError: there is neither.
    """
    return user_folder("XDG_CACHE_HOME", ".cache")


def config_root() -> Path:
    """The folder of the user's settings: ``sealproof`` below ``XDG_CONFIG_HOME``, or ``~/.config``.

    :raises SetupError: there is neither.
    """
    return user_folder("XDG_CONFIG_HOME", ".config")


def state_root() -> Path:
    """The folder of what must outlive a cache: ``sealproof`` below ``XDG_STATE_HOME``, or ``~/.local/state``.

    :raises SetupError: there is neither.
    """
    return user_folder("XDG_STATE_HOME", ".local/state")


def user_name() -> str:
    """The name of the user who runs this; ``uid N`` for one who has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # before and since Python 3.13
        return f"uid {os.getuid()}"


def make_refuses(path: Path) -> bool:
    """Whether nothing can be built below a path, nor QEMU be given a file there.

    Kbuild takes no blank and no colon, make no ``$`` and ``#``; a shell takes others for its own, and QEMU a comma.
    Kbuild goes by the real path: that counts as well.
    """
    return any(
        re.search(r"""[\s:$#'"\\,;&|<>()*?\[\]{}!`%\udc80-\udcff]""", name)
        for name in (str(path), os.path.realpath(path))
    )


def require_reports(folder: Path) -> None:
    """Check, by trying, that a run can be kept below a folder, which is made when missing.

    :raises SetupError: it cannot; one line.
    """
    probe = folder / f".writable-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise SetupError(
            f"reports cannot be written to {folder}: {error.strerror}; name another folder with --reports DIR",
            stage="reports",
        ) from error
