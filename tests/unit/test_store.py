# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import CommandError, KernelError, NoSpaceError, SetupError
from common.paths import PROJECT
from common.store import Store, digest, disk_errors, scratch_folder, sums
from common.waiting import Deadline, poll_until

MIB = 1 << 20
DAY = 86400.0

# Makes entry kind/KEY of STORE; says "asks" before and "makes" in the middle, and goes on when there is a file "go".
MAKER = """
import sys, time
from pathlib import Path
from common.store import Store
base, name, key = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def make(folder):
    (folder / "part").write_text("half")
    with (base / "makes").open("a") as out:
        out.write(name + "\\n")
    while not (base / "go").exists():
        time.sleep(0.005)
    (folder / "part").write_text("whole")

(base / f"{name}-asks").touch()
print((Store(base / "store").get_or_make("kind", key, make) / "part").read_text())
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Callable[[str, str], subprocess.Popen[str]]]:
    """Starts a process of its own that asks for an entry."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, key: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", MAKER, str(tmp_path), name, key]
        started.append(subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def fill_with(size: int = 0) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "content").write_bytes(b"c" * size)

    return make


def never(_: Path) -> None:
    pytest.fail("the entry is made again")


def files_left(store: Store) -> list[str]:
    """What is there besides locks."""
    return [str(p.relative_to(store.root)) for p in store.root.glob("*/*") if p.parent.name != "locks"]


def test_entry_is_made_once_and_then_found(store: Store) -> None:
    assert store.get("kind", "a") is None
    entry = store.get_or_make("kind", "a", fill_with(3))
    assert (entry / "content").read_bytes() == b"ccc"
    assert store.get_or_make("kind", "a", never) == store.get("kind", "a") == entry == store.path("kind", "a")


def test_processes_that_ask_for_the_same_make_it_once(
    tmp_path: Path, maker: Callable[[str, str], subprocess.Popen[str]]
) -> None:
    asking = [maker(name, "same") for name in ("one", "two", "three")]
    poll_until(lambda: len(list(tmp_path.glob("*-asks"))) == 3, Deadline(60), "all to ask")
    poll_until((tmp_path / "makes").exists, Deadline(60), "one to make")
    assert Store(tmp_path / "store").get("kind", "same") is None, "an entry is complete or absent"
    (tmp_path / "go").touch()
    assert [process.communicate(timeout=60)[0] for process in asking] == ["whole\n"] * 3
    assert len((tmp_path / "makes").read_text().splitlines()) == 1


def test_living_maker_is_left_alone_and_a_killed_one_is_swept_up(
    tmp_path: Path, store: Store, maker: Callable[[str, str], subprocess.Popen[str]]
) -> None:
    at_work = maker("one", "slow")
    poll_until((tmp_path / "makes").exists, Deadline(60), "it to make")
    store.get_or_make("kind", "other", fill_with())
    store.clean(max_bytes=1 << 40, max_age=DAY)
    assert (store.root / "scratch" / "kind-slow" / "part").read_text() == "half"
    at_work.kill()
    at_work.wait()
    assert store.get("kind", "slow") is None
    store.get_or_make("kind", "third", fill_with())
    assert files_left(store) == ["kind/other", "kind/third"] or files_left(store) == ["kind/third", "kind/other"]


def test_entry_whose_maker_was_killed_is_made_from_nothing(
    tmp_path: Path, store: Store, maker: Callable[[str, str], subprocess.Popen[str]]
) -> None:
    killed = maker("one", "same")
    poll_until((tmp_path / "makes").exists, Deadline(60), "it to make")
    killed.kill()
    killed.wait()
    entry = store.get_or_make("kind", "same", fill_with())
    assert sorted(p.name for p in entry.iterdir()) == [".sums", ".used", "content"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told_as_such_and_leaves_nothing(store: Store, number: int) -> None:
    def make(folder: Path) -> None:
        fill_with(10)(folder)
        raise OSError(number, os.strerror(number))

    with pytest.raises(NoSpaceError) as caught:
        store.get_or_make("kind", "a", make)
    assert str(store.root) in caught.value.message
    assert "make clean-cache" in caught.value.hint
    assert files_left(store) == []


@pytest.mark.parametrize("full", ["XDG_CACHE_HOME", "TMPDIR"])
def test_program_that_finds_the_disk_full_is_not_told_as_a_fault_of_the_code(
    store: Store, full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler's own words are in the middle of make's, and the disk may be that of its temporary files."""
    output = "x.c:45:1: fatal error: error writing to /tmp/ccS5bQOn.s: No space left on device\nmake: Error 1"

    def make(_: Path) -> None:
        raise KernelError(f"the code does not build\n{output}", hint="repeat it")

    place = store.root if full == "XDG_CACHE_HOME" else Path(tempfile.gettempdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0 if Path(path) == place else 1 << 40))
    with pytest.raises(NoSpaceError, match=f"no space left for {place}: ") as caught:
        store.get_or_make("kind", "a", make)
    assert f"point {full} to" in caught.value.hint
    assert files_left(store) == []


def test_full_disk_for_temporary_files_is_told_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(NoSpaceError, match=f"no space left for {tempfile.gettempdir()}") as caught, scratch_folder():
        pass
    assert "point TMPDIR to" in caught.value.hint


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_program_that_fails_on_a_full_disk_is_believed_to_have_found_it_full(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(NoSpaceError if not free else CommandError) as caught, scratch_folder():
        raise CommandError(["git"], 128, "could not set 'core.bare'", log=None, stage="kernel source")
    assert ("point TMPDIR" in caught.value.hint) == (not free)


def test_machine_without_a_place_for_temporary_files_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in [...]")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(SetupError, match="no temporary file can be written: No usable") as caught, scratch_folder():
        pass
    assert "TMPDIR" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_really_full_disk_leaves_nothing(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "sealproof-test", tmp_path]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        store = Store(tmp_path / "store")
        with pytest.raises(NoSpaceError):
            store.get_or_make("kind", "big", fill_with(2 * MIB))
        assert files_left(store) == []
        store.get_or_make("kind", "small", fill_with(MIB // 2))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_maker_that_fails_leaves_nothing_and_another_may_try(store: Store, error: type[BaseException]) -> None:
    def make(folder: Path) -> None:
        fill_with(10)(folder)
        raise error

    with pytest.raises(error):
        store.get_or_make("kind", "a", make)
    assert files_left(store) == []
    store.get_or_make("kind", "a", fill_with())


def test_other_system_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_too_little_room_is_told_before_anything_is_made(store: Store) -> None:
    need = shutil.disk_usage(store.root.parent).total + 1
    with pytest.raises(NoSpaceError, match="are needed"):
        store.get_or_make("kind", "a", never, need=need)
    assert files_left(store) == []


def test_room_is_not_asked_for_what_is_there(store: Store) -> None:
    store.get_or_make("kind", "a", fill_with())
    store.get_or_make("kind", "a", never, need=1 << 62)


def use_entry(store: Store, key: str, days_ago: float, size: int = MIB) -> None:
    store.get_or_make("kind", key, fill_with(size))
    then = time.time() - days_ago * DAY
    os.utime(store.path("kind", key) / ".used", (then, then))


@pytest.mark.parametrize(
    ("megabytes", "days", "remaining"),
    [
        (100, 100, ["new", "middle", "old"]),
        (100, 7, ["new", "middle"]),
        (2.5, 100, ["new", "middle"]),
        (1.5, 100, ["new"]),
        (0, 100, []),
        (100, 0.5, ["new"]),
        (1.5, 7, ["new"]),
    ],
)
def test_clean_removes_the_old_and_then_the_longest_unused(
    store: Store, megabytes: float, days: float, remaining: list[str]
) -> None:
    for key, age in (("middle", 5), ("old", 10), ("new", 0)):
        use_entry(store, key, age)
    removed = store.clean(max_bytes=int(megabytes * MIB), max_age=days * DAY)
    assert [entry.key for entry in store.entries()] == remaining
    assert sorted(entry.key for entry in removed) == sorted({"new", "middle", "old"} - set(remaining))


def test_what_was_used_before_one_that_does_not_fit_goes_too(store: Store) -> None:
    for key, age, size in (("new", 0, MIB), ("big", 5, 4 * MIB), ("old and small", 10, 4096)):
        use_entry(store, key, age, size)
    store.clean(max_bytes=2 * MIB, max_age=100 * DAY)
    assert [entry.key for entry in store.entries()] == ["new"]


def test_logs_are_shown_and_go_by_age_and_size_like_entries(store: Store) -> None:
    use_entry(store, "new", 0)
    logs = store.root / "logs"
    (logs / "failed-build").mkdir(parents=True)
    (logs / "failed-build" / "build.log").write_bytes(b"l" * MIB)
    (logs / "old.log").write_bytes(b"l" * MIB)
    for name, days in (("failed-build", 1), ("old.log", 10)):
        then = time.time() - days * DAY
        os.utime(logs / name, (then, then))
    assert [(entry.kind, entry.key) for entry in store.entries()] == [
        ("kind", "new"),
        ("logs", "failed-build"),
        ("logs", "old.log"),
    ]
    assert all(MIB <= entry.size < 2 * MIB for entry in store.entries())
    (removed,) = store.clean(max_bytes=1 << 40, max_age=7 * DAY)
    assert removed.path == logs / "old.log"
    assert not (logs / "old.log").exists()
    store.clean(max_bytes=3 * MIB // 2, max_age=7 * DAY)
    assert [entry.key for entry in store.entries()] == ["new"]
    assert list(logs.iterdir()) == []


def test_use_makes_an_entry_young(store: Store) -> None:
    use_entry(store, "old", 10)
    store.get("kind", "old")
    assert store.clean(max_bytes=1 << 40, max_age=DAY) == []


def test_entry_tells_kind_key_size_and_age(store: Store) -> None:
    use_entry(store, "a", 10, size=3 * MIB)
    (entry,) = store.entries()
    assert (entry.kind, entry.key, entry.path) == ("kind", "a", store.path("kind", "a"))
    assert 3 * MIB <= entry.size < 4 * MIB
    assert 9.9 * DAY < entry.age < 10.1 * DAY


def test_what_two_entries_share_is_counted_once(store: Store) -> None:
    first = store.get_or_make("kind", "a", fill_with(4 * MIB))

    def link(folder: Path) -> None:
        (folder / "content").hardlink_to(first / "content")
        (folder / "own").write_bytes(b"o" * MIB)
        (folder / "own too").hardlink_to(folder / "own")

    store.get_or_make("kind", "b", link)
    sizes = {entry.key: entry.size // MIB for entry in store.entries()}
    assert sizes == {"a": 4, "b": 1}


def share(store: Store, key: str, other: str, days_ago: float) -> None:
    """An entry that has the content of another one, and 1 MiB of its own."""

    def link(folder: Path) -> None:
        (folder / "content").hardlink_to(store.path("kind", other) / "content")
        (folder / "own").write_bytes(b"o" * MIB)

    store.get_or_make("kind", key, link)
    then = time.time() - days_ago * DAY
    os.utime(store.path("kind", key) / ".used", (then, then))


def test_what_an_entry_shared_with_one_that_is_removed_counts_for_it(store: Store) -> None:
    use_entry(store, "source", 100, 8 * MIB)
    share(store, "patched", "source", 3)
    share(store, "patched once more", "source", 2)
    use_entry(store, "other", 1)
    assert [entry.key for entry in store.clean(max_bytes=1 << 40, max_age=30 * DAY)] == ["source"]
    sizes = [(entry.key, entry.size // MIB, round(entry.age / DAY)) for entry in store.entries()]
    assert sizes == [("other", 1, 1), ("patched once more", 9, 2), ("patched", 1, 3)]


def test_what_was_shared_with_the_removed_has_to_fit_as_well(store: Store) -> None:
    use_entry(store, "source", 100, 8 * MIB)
    share(store, "patched", "source", 3)
    use_entry(store, "other", 1)
    removed = store.clean(max_bytes=4 * MIB, max_age=30 * DAY)
    assert [entry.key for entry in removed] == ["source", "patched"]
    assert [entry.key for entry in store.entries()] == ["other"]


def test_size_does_not_follow_links_out_of_the_entry(store: Store, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"b" * MIB)
    store.get_or_make("kind", "a", lambda folder: (folder / "link").symlink_to(tmp_path / "big"))
    assert store.entries()[0].size < MIB
    store.clean(max_bytes=0, max_age=0)
    assert (tmp_path / "big").exists()


def test_empty_cache_is_clean(store: Store) -> None:
    assert store.entries() == []
    assert store.clean(max_bytes=0, max_age=0) == []


def test_discarded_entry_is_made_anew(store: Store) -> None:
    store.get_or_make("kind", "a", fill_with(1))
    store.discard("kind", "a")
    assert store.get("kind", "a") is None
    assert (store.get_or_make("kind", "a", fill_with(2)) / "content").stat().st_size == 2
    store.discard("kind", "not there")


def test_digest_frames_its_parts() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", ""), digest("", "abc")}) == 5
    assert digest("abc") == digest(b"abc")
    assert digest("a", "b") != digest("b", "a")
    assert len(digest()) == 20


def test_digest_of_a_file_counts_name_and_content_and_not_the_folder(tmp_path: Path) -> None:
    files = {}
    for path, content in (("x/one", "1"), ("y/one", "1"), ("x/two", "1"), ("z/one", "2")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
        files[path] = digest(tmp_path / path)
    assert files["x/one"] == files["y/one"]
    assert len({files["x/one"], files["x/two"], files["z/one"]}) == 3


def test_cache_that_cannot_be_used_is_told_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("/no/such/place")
    for root, why in (("file", "Not a directory"), ("dangling", "File exists")):
        with pytest.raises(SetupError, match=f"the cache cannot be used: .*: {why}") as caught:
            Store(tmp_path / root).get_or_make("kind", "key", fill_with())
        assert "make doctor" in caught.value.hint


@pytest.mark.parametrize(
    "use", [lambda store: store.discard("kind", "key"), lambda store: store.clean(max_bytes=0, max_age=0)]
)
def test_cache_below_a_file_is_told_by_whatever_comes_first(tmp_path: Path, use: Callable[[Store], object]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="the cache cannot be used"):
        use(Store(tmp_path / "file/cache"))


def test_entry_of_a_cache_that_is_only_read_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = store.get_or_make("kind", "key", lambda folder: (folder / "x").touch())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    assert store.get("kind", "key") == entry


def test_what_an_entry_is_made_of_is_known_by_its_hash(store: Store) -> None:
    def make(folder: Path) -> None:
        (folder / "below").mkdir()
        (folder / "below" / "image").write_bytes(b"abc")
        (folder / "link").symlink_to("below/image")

    entry = store.get_or_make("kind", "key", make)
    there = subprocess.run(["sha256sum", entry / "below" / "image"], capture_output=True, text=True, check=True).stdout
    assert sums(entry)["below/image"] == there.split()[0]
    assert sorted(sums(entry)) == ["below/image", "link"]


def edit(entry: Path) -> None:
    (entry / "content").write_bytes((entry / "content").read_bytes()[:-1] + b"x")


def remove(entry: Path) -> None:
    (entry / "content").unlink()


def lead_elsewhere(entry: Path) -> None:
    (entry / "link").unlink()
    (entry / "link").symlink_to("/bin/sh")


def lay_beside(entry: Path) -> None:
    (entry / "lib").mkdir()
    (entry / "lib" / "libc.so.6").write_bytes(b"another")


@pytest.mark.parametrize(
    ("change", "name"), [(edit, "content"), (remove, "content"), (lead_elsewhere, "link"), (lay_beside, "libc.so.6")]
)
def test_entry_that_was_changed_is_refused_by_name(store: Store, change: Callable[[Path], None], name: str) -> None:
    def make(folder: Path) -> None:
        fill_with()(folder)
        (folder / "link").symlink_to("content")

    entry = store.get_or_make("kernel", "key", make)
    change(entry)
    with pytest.raises(SetupError, match="the cache's kernel key was changed since it was made") as caught:
        Store(store.root).get("kernel", "key")
    assert f"rm -r {entry}" in caught.value.hint
    assert caught.value.artefact is not None
    assert caught.value.artefact.name == name


def test_use_changes_no_entry(store: Store) -> None:
    store.get_or_make("kind", "key", fill_with())
    assert Store(store.root).get("kind", "key") is not None
    assert Store(store.root).get_or_make("kind", "key", fill_with()) is not None


def test_entry_of_an_earlier_version_gets_its_hashes_when_it_is_handed_out(store: Store) -> None:
    entry = store.get_or_make("kind", "key", fill_with())
    (entry / ".sums").unlink()
    assert Store(store.root).get("kind", "key") == entry
    edit(entry)
    with pytest.raises(SetupError, match="was changed since it was made"):
        Store(store.root).get("kind", "key")
