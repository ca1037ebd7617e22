# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the root file system's recipe that need no Debian archive; mmdebstrap and apt-get are scripts here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ImageError
from common.progress import Terminal
from common.store import Store
from guest_images import rootfs as module
from guest_images.rootfs import RootFs, rootfs

TARGETS = """\
Debian bookworm main http://archive.invalid/debian
Debian bookworm main http://archive.invalid/debian
Debian bookworm contrib http://contrib.invalid/debian
Debian bookworm-security main http://security.invalid/debian-security
Debian bookworm-updates main http://updates.invalid/debian
Debian bookworm-backports main http://backports.invalid/debian
Docker CE bookworm stable https://docker.invalid/linux
Google LLC stable main https://google.invalid/chrome
  main http://nameless.invalid/debian
   http://flat.invalid/debian
Debian trixie main cdrom://[Debian GNU/Linux 13]/
Debian trixie main https://mirror.invalid/debian
"""

Script = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Puts a shell script before all other programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(module, "GIB", 0)  # room on disk is another test's matter

    def install(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return install


def test_mirrors_are_those_of_debians_main_archive_alone(program: Script) -> None:
    program("apt-get", f"cat <<'END'\n{TARGETS}END")
    assert module._mirrors() == ["http://archive.invalid/debian", "https://mirror.invalid/debian"]


@pytest.mark.parametrize("script", ["exit 100", "exit 0"])
def test_apt_that_knows_nothing_names_no_mirror(program: Script, script: str) -> None:
    program("apt-get", script)
    assert module._mirrors() == []


def test_packages_are_the_first_words_without_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages.txt").write_text("# SPDX\n\nprocps\nkmod   for modules\n   \n")
    monkeypatch.setattr(module, "RECIPE", tmp_path)
    assert module._packages(tmp_path / "packages.txt") == ["procps", "kmod"]


def test_own_recipe_names_what_the_host_cannot_do_without() -> None:
    assert {"qemu-system-x86", "openssh-server", "busybox-static", "dropbear-bin"} <= set(
        module._packages(module.RECIPE / "packages.txt")
    )


def test_version_is_that_of_the_package_of_exactly_this_name(tmp_path: Path) -> None:
    (tmp_path / "packages.list").write_text("qemu-system-x86-extra 1\nqemu-system-x86 1:10.0.2+ds-2\nqemu 9\n")
    result = RootFs(tmp_path, "key")
    assert result.version("qemu-system-x86") == "1:10.0.2+ds-2"
    with pytest.raises(ImageError, match="no package qemu-system-arm"):
        result.version("qemu-system-arm")


def test_failed_mmdebstrap_is_explained_and_leaves_no_image(program: Script, tmp_path: Path) -> None:
    program("apt-get", "echo 'Debian trixie main http://mirror.invalid/debian'")
    program("mmdebstrap", "echo 'I: running apt-get update...'; echo 'E: cannot resolve mirror.invalid'; exit 25")
    store = Store(tmp_path / "cache")
    with pytest.raises(ImageError) as caught:
        rootfs(store, Terminal())
    error = caught.value
    assert "E: cannot resolve mirror.invalid" in error.message
    assert "apt-get update" in error.hint
    assert error.artefact is not None
    first = error.artefact.read_text().splitlines()[0]
    assert first.startswith("$ env -i ")
    assert " mmdebstrap --" in first
    assert "--include=qemu-system-x86,openssh-server" in first
    assert first.endswith("trixie - http://mirror.invalid/debian")
    assert [entry.kind for entry in store.entries()] == ["logs"]


BUILT = """\
for a; do case "$a" in --customize-hook=*) hook=${a#*=};; esac; done
echo I: downloading packages with apt
eval "set -- $hook"  # as mmdebstrap does; it fills the folder of the image
: > "$3/root.erofs"
"""


UNSHARED = """\
case " $* " in *" --map-root-user --map-auto "*" -- mmdebstrap --mode=root "*) ;; *) exit 9 ;; esac
while [ "$1" != -- ]; do shift; done
shift
IN_NAMESPACE=yes exec "$@"
"""


@pytest.mark.parametrize("user", [0, 1000])
def test_user_who_is_not_root_stays_the_same_user_outside(
    program: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    program("apt-get", "echo 'Debian trixie main http://mirror.invalid/debian'")
    program("unshare", UNSHARED)
    # As mmdebstrap's own namespace has it: the hook is somebody else's, and may not enter a home folder.
    program(
        "mmdebstrap",
        f'[ "$IN_NAMESPACE" = yes ] || [ {user} = 0 ] || exit 13\n{BUILT} echo "procps 1" > "$3/packages.list"',
    )
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert (rootfs(Store(tmp_path / "cache"), Terminal()).folder / "root.erofs").is_file()


def test_image_is_built_once_with_progress_in_a_folder_with_blanks(
    program: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.progress.PLAIN_INTERVAL", 0.0)
    program("apt-get", "true")
    program("mmdebstrap", f'{BUILT} echo "procps 1" > "$3/packages.list"')
    store = Store(tmp_path / "a cache")
    root = rootfs(store, Terminal())
    assert root.host_image.exists()
    assert root.version("procps") == "1"
    assert "downloading packages" in capsys.readouterr().err
    program("mmdebstrap", "exit 1")
    assert rootfs(store, Terminal()) == root


def test_image_made_again_with_newer_packages_is_another_one(program: Script, tmp_path: Path) -> None:
    program("apt-get", "true")
    keys = []
    for version in (1, 2, 2):
        program("mmdebstrap", f'{BUILT} echo "procps {version}" > "$3/packages.list"')
        store = Store(tmp_path / "cache")
        keys.append(rootfs(store, Terminal()).key)
        store.clean(max_bytes=0, max_age=0)
    assert keys[0] != keys[1] == keys[2]
