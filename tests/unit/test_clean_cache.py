# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from common.errors import UserInputError
from common.store import Store
from host_setup.tools import clean_cache
from host_setup.tools.clean_cache import DAY, Limits

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two kernels of 1 MiB: ``new`` used now, ``old`` ten days ago."""
    store = Store(tmp_path / "sealproof")
    for key in ("new", "old"):
        store.get_or_make("kernel", key, lambda folder: folder.joinpath("bzImage").write_bytes(b"k" * MIB) and None)
    then = time.time() - 10 * DAY
    os.utime(store.path("kernel", "old") / ".used", (then, then))
    return store


def entries_left(store: Store) -> list[str]:
    return [entry.key for entry in store.entries()]


def test_within_both_limits_all_stays_and_is_listed(store: Store) -> None:
    output = clean_cache.clean(store, Limits.model_validate({"max_size": "20GiB", "max_age": "30"}))
    assert entries_left(store) == ["new", "old"]
    assert output.count("stays") == 2
    assert "last used 10.0 days ago" in output


@pytest.mark.parametrize(("size", "age"), [("20GiB", "5"), ("1.5MiB", "30")])
def test_too_old_and_too_much_both_remove_the_longest_unused(store: Store, size: str, age: str) -> None:
    output = clean_cache.clean(store, Limits.model_validate({"max_size": size, "max_age": age}))
    assert entries_left(store) == ["new"]
    assert "removed  kernel/old" in output
    assert "removed 1 (0.00 GiB), kept 1" in output


@pytest.mark.parametrize("argv", [["--max-size", "huge"], ["--max-age", "-1"], ["--max-age", "soon"]])
def test_unusable_limit_is_named_with_an_example(argv: list[str]) -> None:
    with pytest.raises(UserInputError) as caught:
        clean_cache.main(argv)
    assert argv[1] in str(caught.value)
    assert "make clean-cache MAX_SIZE=20GiB MAX_AGE=30" in str(caught.value)


def test_ccaches_part_is_shown_with_its_own_limit_and_left_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_by_ccache = store.root / "ccache" / "0" / "object"
    kept_by_ccache.parent.mkdir(parents=True)
    kept_by_ccache.write_bytes(b"c" * 20 * MIB)
    (tmp_path / "ccache").write_text('#!/bin/sh\n[ "$CCACHE_DIR" ] && echo 5.0G\n')
    (tmp_path / "ccache").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    output = clean_cache.clean(store, Limits.model_validate({"max_size": "0", "max_age": "0"}))
    assert "ccache  0.02 GiB, ccache itself limits it to 5.0G" in output
    assert kept_by_ccache.exists()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    output = clean_cache.clean(store, Limits.model_validate({"max_size": "0", "max_age": "0"}))
    assert "ccache  0.02 GiB, ccache is not installed" in output
