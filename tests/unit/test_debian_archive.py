# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel sources from an archive of Debian's form: the real apt, on an archive that lies in a folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from common.errors import SetupError, UserInputError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import debian_archive, source


class Archive:
    """An archive of one suite, as apt takes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._work = folder / "work"
        (folder / "pool").mkdir(parents=True)
        self._stanzas: list[str] = []
        self._list()

    def add(self, release: str, version: str, *, named: str = "", content: bytes = b"a kernel") -> Path:
        """Add a source package; ``named``: what its tarball is called instead."""
        package = f"linux-source-{release}"
        (self._work / "DEBIAN").mkdir(parents=True)
        (self._work / "usr/src").mkdir(parents=True)
        (self._work / "usr/src" / (named or f"{package}.tar.xz")).write_bytes(content)
        control = f"Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@b.example>\n"
        (self._work / "DEBIAN/control").write_text(f"{control}Description: a source\n")
        deb = self.folder / "pool" / f"{package}_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", self._work, deb], check=True, capture_output=True)
        shutil.rmtree(self._work)
        facts = f"Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
        self._stanzas.append(f"{control}{facts}SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n")
        self._list()
        return deb

    def lines(self, options: str = "[trusted=yes]") -> list[str]:
        return [f"deb {options} file:{self.folder} ./"]

    def _list(self) -> None:
        packages = "\n".join(self._stanzas).encode()
        (self.folder / "Packages").write_bytes(packages)
        about = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
        (self.folder / "Release").write_text(f"Origin: Debian\nLabel: Debian\nSHA256:\n{about}")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    archive = Archive(tmp_path / "archive")
    archive.add("6.1", "6.1.170-3")
    archive.add("6.12", "6.12.9-1")
    archive.add("6.12", "6.12.118-1")
    archive.add("7.3", "7.3.4-1~bpo13+1")
    return archive


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(debian_archive, "_NEEDS", 0)
    return Store(tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("6.1", "linux-source-6.1_6.1.170-3.tar.xz"),
        ("6.12", "linux-source-6.12_6.12.118-1.tar.xz"),
        ("6.12.9", "linux-source-6.12_6.12.9-1.tar.xz"),
        ("7.3", "linux-source-7.3_7.3.4-1~bpo13+1.tar.xz"),
        ("latest", "linux-source-7.3_7.3.4-1~bpo13+1.tar.xz"),
    ],
)
def test_a_name_is_the_newest_package_of_that_kernel(archive: Archive, store: Store, name: str, file: str) -> None:
    path = debian_archive.tarball(name, store, Terminal(), archive.lines())
    assert (path.name, path.read_bytes()) == (file, b"a kernel")
    assert [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")] == [file]


@pytest.mark.parametrize("name", ["5.10", "6.12.1", "6.11"])
def test_a_kernel_that_no_archive_has_is_one_line(archive: Archive, store: Store, name: str) -> None:
    with pytest.raises(UserInputError, match=f"no Debian archive has a kernel source {name}") as caught:
        debian_archive.tarball(name, store, Terminal(), archive.lines())
    assert caught.value.hint is not None
    assert "6.1, 6.12, 7.3" in caught.value.hint


def test_what_would_be_fetched_is_known_without_it(archive: Archive, store: Store) -> None:
    package = debian_archive.offered("6.12", archive.lines())
    assert package == debian_archive.Package("linux-source-6.12", "6.12.118-1")
    assert package.release == "6.12.118"
    assert not (store.root / debian_archive.KIND).exists()
    with pytest.raises(UserInputError, match=r"no Debian archive has a kernel source 6\.99"):
        debian_archive.offered("6.99", archive.lines())
    shutil.rmtree(archive.folder)
    assert debian_archive.offered("6.12", archive.lines()) is None


def test_what_was_fetched_is_fetched_once_and_a_newer_one_is_taken(archive: Archive, store: Store) -> None:
    first = debian_archive.tarball("7.3", store, Terminal(), archive.lines())
    for deb in (archive.folder / "pool").iterdir():
        deb.unlink()
    assert debian_archive.tarball("7.3", store, Terminal(), archive.lines()) == first
    archive.add("7.3", "7.3.10-1")
    assert debian_archive.tarball("7.3", store, Terminal(), archive.lines()).name == "linux-source-7.3_7.3.10-1.tar.xz"


def test_without_an_archive_what_was_fetched_earlier_is_taken_and_said(
    archive: Archive, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    earlier = debian_archive.tarball("6.12", store, Terminal(), archive.lines())
    no_archive = ["deb [trusted=yes] file:/no/such/archive ./"]
    for name in ("6.12", "6.12.118", "latest"):
        assert debian_archive.tarball(name, store, Terminal(), no_archive) == earlier
    assert (
        "the Debian archives do not answer: using linux-source-6.12_6.12.118-1.tar.xz, which was fetched earlier"
        in "".join(capfd.readouterr())
    )
    for name in ("6.1", "6.12.9", "7.3"):
        with pytest.raises(SetupError, match=f"no Debian archive could deliver the kernel source {name}"):
            debian_archive.tarball(name, store, Terminal(), no_archive)


def test_an_archive_that_nobody_has_signed_is_refused(archive: Archive, store: Store) -> None:
    with pytest.raises(SetupError, match=r"could deliver the kernel source 6\.12: E: .*not signed"):
        debian_archive.tarball("6.12", store, Terminal(), archive.lines(options=""))


def test_a_package_that_is_not_what_the_archive_lists_is_refused(archive: Archive, store: Store) -> None:
    deb = archive.folder / "pool/linux-source-6.1_6.1.170-3_all.deb"
    deb.write_bytes(deb.read_bytes()[:-1] + b"\0")
    with pytest.raises(SetupError, match=r"linux-source-6\.1 6\.1\.170-3 cannot be fetched"):
        debian_archive.tarball("6.1", store, Terminal(), archive.lines())
    assert debian_archive.find_fetched("6.1", store) is None


def test_a_package_without_a_kernel_is_refused(archive: Archive, store: Store) -> None:
    archive.add("6.13", "6.13.1-1", named="README")
    with pytest.raises(SetupError, match=r"holds no linux-source-6\.13\.tar\.xz"):
        debian_archive.tarball("6.13", store, Terminal(), archive.lines())
    assert list((store.root / "debian-source").iterdir()) == []


def test_the_newest_kept_is_by_number_and_not_by_letter(store: Store) -> None:
    for version in ("6.12.9-1", "6.12.118-1", "6.12.20-3"):
        entry = store.path(debian_archive.KIND, version)
        entry.mkdir(parents=True)
        (entry / f"linux-source-6.12_{version}.tar.xz").touch()
    assert [debian_archive.find_fetched(name, store) is None for name in ("6.1", "6.12.1", "7.3")] == [True, True, True]
    for name in ("6.12", "latest"):
        path = debian_archive.find_fetched(name, store)
        assert path is not None
        assert path.name == "linux-source-6.12_6.12.118-1.tar.xz"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("6.1", "6.1"),
        ("6.12.118", "6.12.118"),
        ("latest", "latest"),
        ("./7.3", Path("7.3")),
        ("/usr/src/linux", Path("/usr/src/linux")),
    ],
)
def test_an_option_is_a_release_or_a_path(text: str, parsed: str | Path) -> None:
    assert source.parse(text) == parsed


def test_sources_are_debians_suites_with_that_kernel_and_its_own_key() -> None:
    for name, suites in (
        ("6.1", ["bookworm", "bookworm-security"]),
        ("6.12.118", ["trixie", "trixie-security", "bookworm-security"]),
        ("7.3", ["trixie-backports", "sid"]),
        ("latest", ["trixie-backports", "sid"]),
    ):
        lines = [line.split() for line in debian_archive.sources(name)]
        assert [line[3] for line in lines] == suites
        assert {line[1] for line in lines} == {"[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"}
