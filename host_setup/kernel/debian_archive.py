# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel sources by release, as Debian packages them: ``6.1``, ``6.12``, ``6.12.118``, ``7.3``, ``latest``.

apt fetches them and checks Debian's signature. The machine's own apt is only asked where its mirrors are: the suites
are listed in a file of ours, and the folder with this file, apt's lists and its cache goes afterwards.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from common.commands import output
from common.errors import CommandError, SetupError, UserInputError
from common.processes import spawn
from common.progress import Terminal
from common.store import GIB, Store, digest

STAGE = "kernel source"
LATEST = "latest"
KIND = "debian-source"
NAMES = "6.1, 6.12, 7.3, a release of these such as 6.12.118, or latest"
_NAME = re.compile(r"(\d+\.\d+)(?:\.\d+)?")
_PACKAGE = re.compile(r"linux-source-(\d+)\.(\d+)")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SILENCE = 60  # seconds after which apt gives a mirror up
_NEEDS = GIB // 2  # bytes: the package and the tarball in it

# Which suites have which release, by the label of their archive. Kernels newer than stable's are in backports and sid.
_MAIN, _SECURITY = "Debian", "Debian-Security"
_SUITES = {
    "6.1": ((_MAIN, "bookworm"), (_SECURITY, "bookworm-security")),
    "6.12": ((_MAIN, "trixie"), (_SECURITY, "trixie-security"), (_SECURITY, "bookworm-security")),
}
_NEWER = ((_MAIN, "trixie-backports"), (_MAIN, "sid"))
_DEFAULT = {_MAIN: "http://deb.debian.org/debian/", _SECURITY: "http://deb.debian.org/debian-security/"}


@dataclass(frozen=True, slots=True)
class Package:
    """A source package that an archive offers, in one version."""

    name: str
    version: str

    @property
    def release(self) -> str:
        """The kernel's: of Debian's ``6.12.118-1~bpo12+1`` the part before the dash."""
        return re.split("[-~+]", self.version)[0]


def is_name(text: str) -> bool:
    """Whether a text is the name of a kernel."""
    return text == LATEST or _NAME.fullmatch(text) is not None


def tarball(name: str, store: Store, terminal: Terminal, lines: Sequence[str] | None = None) -> Path:
    """The source of a kernel as a tarball in the cache; fetched if the archive has a newer one.

    :param name: one for ``is_name``.
    :param lines: of an apt ``sources.list``; None: Debian's suites for that name, on the machine's own mirrors.
    :raises UserInputError: no archive has such a kernel.
    :raises SetupError: no archive answers and the cache has none, or what was fetched is not what the archive lists.
    """
    with tempfile.TemporaryDirectory(prefix="sealproof-apt-") as folder:
        apt = _Apt(Path(folder), lines if lines is not None else sources(name))
        trouble = apt.update()
        package = _choose(name, apt)
        if package is None and trouble:
            path = find_fetched(name, store)
            if path is None:
                raise SetupError(
                    f"no Debian archive could deliver the kernel source {name}: {trouble}", stage=STAGE, hint=_HINT
                )
            terminal.say(f"the Debian archives do not answer: using {path.name}, which was fetched earlier")
            return path
        if package is None:
            raise _no_source(name)

        def make(entry: Path) -> None:
            with terminal.step(f"fetch Debian's {package.name} {package.version}"):
                _unpack(apt.download(package, entry), entry / f"{package.name}_{package.version}.tar.xz")

        entry = store.get_or_make(KIND, digest(package.name, package.version), make, need=_NEEDS)
    return next(entry.glob("*.tar.xz"))


def offered(name: str, lines: Sequence[str] | None = None) -> Package | None:
    """The package that ``tarball`` would fetch; None if no archive answers.

    :param name: one for ``is_name``. :param lines: as for ``tarball``.
    :raises UserInputError: the archives answer, and have no such kernel.
    """
    with tempfile.TemporaryDirectory(prefix="sealproof-apt-") as folder:
        apt = _Apt(Path(folder), lines if lines is not None else sources(name))
        trouble = apt.update()
        package = _choose(name, apt)
    if package is None and not trouble:
        raise _no_source(name)
    return package


def _no_source(name: str) -> UserInputError:
    return UserInputError(f"no Debian archive has a kernel source {name}", stage=STAGE, hint=f"name one of: {NAMES}")


def sources(name: str) -> list[str]:
    """The lines of an apt ``sources.list`` for a kernel: Debian's suites that have it, on the machine's own mirrors."""
    mirrors = dict(_DEFAULT)
    try:
        listed = output(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"], stage=STAGE)
    except CommandError:
        listed = b""
    for line in listed.decode(errors="replace").splitlines():
        origin, label, uri = line.split("|", 2)
        if origin == "Debian" and label in mirrors:
            mirrors[label] = uri
    release = _NAME.fullmatch(name)
    suites = _SUITES.get(release[1], _NEWER) if release else _NEWER
    return [f"deb [signed-by={_KEYRING}] {mirrors[label]} {suite} main" for label, suite in suites]


class _Apt:
    """apt with its own sources, lists and cache."""

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        settings = {
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": _SILENCE,
            "Acquire::https::Timeout": _SILENCE,
            "APT::Sandbox::User": "root",  # else root's apt fetches as a user who may not write here
        }
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> str:
        """Fetch the lists of packages; what went wrong, which may be one suite of several, or empty."""
        complaints: list[str] = []
        try:
            output(["apt-get", *self._options, "-qq", "update"], stage=STAGE, complaints=complaints)
        except CommandError as error:
            return _complaints(error)
        return "; ".join(line for line in complaints if "Failed to fetch" in line)

    def names(self) -> list[str]:
        """All packages of kernel sources, oldest kernel first."""
        listed = output(["apt-cache", *self._options, "pkgnames", "linux-source-"], stage=STAGE).decode()
        packages = [name for name in listed.split() if _PACKAGE.fullmatch(name)]
        return sorted(packages, key=lambda name: [int(part) for part in name.removeprefix("linux-source-").split(".")])

    def versions(self, name: str) -> list[str]:
        """The versions of a package that can be fetched, newest first."""
        listed = output(["apt-cache", *self._options, "madison", name], stage=STAGE).decode()
        return [line.split("|")[1].strip() for line in listed.splitlines()]

    def download(self, package: Package, folder: Path) -> Path:
        """The package, fetched into a folder.

        :raises SetupError: it cannot be fetched, or it is not what the archive lists.
        """
        words = ["apt-get", *self._options, "-qq", "download", f"{package.name}={package.version}"]
        try:
            output(["env", f"--chdir={folder}", *words], stage=STAGE)
        except CommandError as error:
            raise SetupError(
                f"{package.name} {package.version} cannot be fetched: {_complaints(error)}", stage=STAGE, hint=_HINT
            ) from error
        return next(folder.glob("*.deb"))


def _complaints(error: CommandError) -> str:
    """What apt says is wrong, on one line."""
    return "; ".join(line for line in error.message.splitlines() if line.startswith(("E:", "W:"))) or error.message


_HINT = "look at the network and its proxy, or name a tree or a tarball with --kernel"


def _choose(name: str, apt: _Apt) -> Package | None:
    """The newest package of a kernel; None if the archives that answered have none."""
    release = _NAME.fullmatch(name)
    if release is None:
        names = apt.names()
        return Package(names[-1], apt.versions(names[-1])[0]) if names else None
    package = f"linux-source-{release[1]}"
    versions = apt.versions(package) if package in apt.names() else []
    return next((Package(package, version) for version in versions if _is_of(name, version)), None)


def _is_of(name: str, version: str) -> bool:
    """Whether a package's version is of the kernel of that name."""
    return name == LATEST or re.match(rf"{re.escape(name)}[-~+.]", version) is not None


def _version(path: Path) -> str:
    return path.name.removesuffix(".tar.xz").split("_")[1]


def find_fetched(name: str, store: Store) -> Path | None:
    """The newest source of that name that was fetched earlier, as a tarball; None if there is none."""
    paths = [path for path in (store.root / KIND).glob("*/linux-source-*_*.tar.xz") if _is_of(name, _version(path))]
    return max(paths, key=lambda path: [int(part) for part in re.findall(r"\d+", _version(path))], default=None)


def _unpack(package: Path, target: Path) -> None:
    """Take the kernel's tarball out of a package, which goes."""
    name = package.name.split("_")[0]
    process = spawn(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], process.stdout), mode="r|") as files:
            for member in files:
                if member.isfile() and Path(member.name).name == f"{name}.tar.xz":
                    content = files.extractfile(member)
                    if content is not None:
                        with content, target.open("wb") as file:
                            shutil.copyfileobj(content, file, 1 << 20)
    except tarfile.TarError as error:
        raise SetupError(f"{package.name} is damaged: {error}", stage=STAGE, hint=_HINT) from error
    finally:
        process.kill()
        process.wait()
    if not target.exists():
        raise SetupError(f"{package.name} holds no {name}.tar.xz", stage=STAGE, hint=_HINT)
    package.unlink()
