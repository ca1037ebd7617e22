# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver out of the kernel's source is built once for each kernel, of all C files of its folder."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from common.progress import Terminal
from common.store import Store
from host_setup.kernel import driver as module
from host_setup.kernel.driver import driver

E1000 = "drivers/net/ethernet/intel/e1000"


def test_driver_is_made_of_its_folder_once_for_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "linux" / E1000
    source.mkdir(parents=True)
    for name in ("e1000_main.c", "e1000_hw.c", "e1000.h", "Makefile"):
        (source / name).touch()
    built: list[str] = []

    def build(kernel: Mock, sources: Path, *_: object) -> Path:
        assert (sources / "e1000.h").exists()
        built.append((sources / "Kbuild").read_text())
        (tmp_path / "e1000.ko").write_text(kernel.key)
        return tmp_path

    monkeypatch.setattr(module, "source_tree", lambda *_: tmp_path / "linux")
    monkeypatch.setattr(module, "module", build)
    store = Store(tmp_path / "cache")
    for key in ("one", "one", "two"):
        ko_file = driver(Mock(key=key), Mock(), E1000, store, Terminal())
        assert ko_file.name == "e1000.ko"
        assert ko_file.read_text() == key
    assert built == ["obj-m := e1000.o\ne1000-y := e1000_hw.o e1000_main.o\n"] * 2
    assert not (source / "Kbuild").exists()
