# SPDX-License-Identifier: GPL-2.0-or-later
"""The environment of every program that we start: made here, not handed on.

Variables that a user has set for other programs (``KCONFIG_CONFIG``, ``LLVM``, ``GIT_DIR``, ``LD_PRELOAD`` ...) must
neither change a result nor make a program write one of the user's files. So a list names the variables that are kept.

Standard library alone: ``make doctor`` uses it on a machine where nothing is installed yet.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

# Who and where the user is; how the network is reached; keys that ssh may use.
USER_VARIABLES = (
    *("HOME", "USER", "LOGNAME", "TERM", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"),
    *(
        variant
        for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
        for variant in (name, name.upper())
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK", "KRB5CCNAME"),
)
PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_TRUSTED_HOST")
"""Beyond it: where pip finds packages. For pip alone, which checks the hash of what it finds."""
# Debian leaves sbin out of a user's PATH, and with it mke2fs.
_PROGRAMS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def search_path() -> str:
    """The user's ``PATH`` without relative folders, which would find a compiler in a kernel tree."""
    named = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder).is_absolute()]
    return os.pathsep.join(dict.fromkeys((*named, *_PROGRAMS)))


def environment(ours: Mapping[str, str] | None = None, *, more_names: Sequence[str] = ()) -> dict[str, str]:
    """The environment for a program.

    :param ours: what it gets beside. :param more_names: which variables of this process it gets beside.
    """
    theirs = {name: os.environ[name] for name in (*USER_VARIABLES, *more_names) if name in os.environ}
    return {**theirs, "PATH": search_path(), "LC_ALL": "C", **(ours or {})}


def shell_line(argv: Sequence[str], ours: Mapping[str, str] | None = None, *, cwd: Path | None = None) -> str:
    """A shell command that does the same in the same environment, wherever it is pasted.

    What is kept of the user's environment stands in it by name: a proxy's address may hold a password.
    """
    variables = environment(ours)
    by_name = {*USER_VARIABLES, "PATH"}.difference(ours or {})
    settings = [
        f'{name}="${name}"' if name in by_name else f"{name}={shlex.quote(value)}" for name, value in variables.items()
    ]
    line = " ".join(["env", "-i", *settings, shlex.join(argv)])
    return line if cwd is None else f"cd {shlex.quote(str(cwd))} && {line}"
