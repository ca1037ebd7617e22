# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import MachineError
from common.store import Store
from guest_images.payload import LIST, MODULES_LIST, Payload
from guest_images.rootfs import RootFs
from host_setup.identity import parts_of, qemu_of, require_kernel

BUILD_ID = "ab" * 20
NOTE = f" 04 00 00 00 14 00 00 00 03 00 00 00\n 47 4e 55 00 {' '.join(['ab'] * 20)}\n"
PAYLOAD = f"{'1' * 64}  guest/initramfs\n{'2' * 64}  programs/sealproof\n"


class Session:
    """Answers as a host does; counts what it is asked."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[list[str]] = []

    def run(self, argv: list[str], *, seconds: float) -> Any:
        assert seconds > 0
        self.asked.append(argv)
        return SimpleNamespace(require=lambda: SimpleNamespace(text=self.text))


def kernel(build_id: str = BUILD_ID) -> Any:
    return SimpleNamespace(build_id=build_id, image=Path("/cache/kernel/key/bzImage"), build_tree=Path("/c/k/key/s/b"))


def test_the_running_kernel_says_which_one_it_is() -> None:
    session: Any = Session(NOTE)
    assert require_kernel(session, kernel()) == BUILD_ID
    assert "/sys/kernel/notes" in session.asked[0]
    require_kernel(session, kernel())
    assert len(session.asked) == 1


@pytest.mark.parametrize(("text", "result"), [(NOTE.replace("ab", "ac"), "ac" * 20), ("", "unknown")])
def test_another_kernel_than_the_one_that_was_built_is_refused(text: str, result: str) -> None:
    session: Any = Session(text)
    with pytest.raises(MachineError, match=f"runs a kernel with build ID {result}, and {BUILD_ID} was built") as caught:
        require_kernel(session, kernel())
    assert caught.value.hint == "rm -r /c/k/key: the next run builds it again"


@pytest.fixture
def images(tmp_path: Path) -> tuple[RootFs, Payload]:
    store = Store(tmp_path)

    def root(folder: Path) -> None:
        (folder / "qemu").mkdir()
        for name in ("root.erofs", "guest-base.cpio", "qemu/qemu-system-x86_64", "qemu/libc.so"):
            (folder / name).write_text(name)

    def disk(folder: Path) -> None:
        (folder / "payload.erofs").write_text("disk")
        (folder / LIST).write_text(PAYLOAD)
        (folder / MODULES_LIST).write_text("modules")

    return (
        RootFs(store.get_or_make("rootfs", "one", root), "key"),
        Payload(store.get_or_make("payload", "two", disk) / "payload.erofs", "key"),
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_host_is_made_of_what_lies_in_the_cache(images: tuple[RootFs, Payload]) -> None:
    result = parts_of(*images, qemu_of(images[0]))
    assert result.sums == {
        "root file system": sha256("root.erofs"),
        "payload": sha256("disk"),
        "guest image": "1" * 64,
        "programs": "2" * 64,
    }
    assert result.lists["payload's files"] == PAYLOAD
    assert result.lists["modules"] == "modules"
    libc, qemu = result.lists["emulator"].splitlines()
    assert libc == f"{sha256('qemu/libc.so')}  qemu/libc.so"
    assert qemu == f"{sha256('qemu/qemu-system-x86_64')}  qemu/qemu-system-x86_64"


def test_a_real_machine_runs_in_no_emulator(images: tuple[RootFs, Payload]) -> None:
    assert "emulator" not in parts_of(*images, {}).lists
