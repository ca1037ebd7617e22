# SPDX-License-Identifier: GPL-2.0-or-later
"""The shared cache: what goes in comes out, by each kind of place, and nothing else comes in."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.errors import NoSpaceError, SetupError, UserInputError
from common.processes import spawn
from common.store import Store
from common.waiting import Deadline, poll_until
from host_setup.shared import __main__ as command
from host_setup.shared.__main__ import ALL_THERE, INDEX, NOT_ALL, AskingStore, File, SharedCache
from host_setup.shared.places import Folder, Place, Registry, Web, place, write_image

KEY = "0123456789abcdef0123"
NAME = f"kernel-{KEY}"


def fill(folder: Path) -> None:
    """Make an entry with all that a kernel's has: folders, a program, links."""
    (folder / "source/build").mkdir(parents=True)
    (folder / "source/build/vmlinux").write_bytes(bytes(range(256)) * 400)
    (folder / "source/tool").write_text("#!/bin/sh\n")
    (folder / "source/tool").chmod(0o755)
    (folder / "source/link").symlink_to("build/vmlinux")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "cache")
    store.get_or_make("kernel", KEY, fill)
    return store


def scratch(tmp_path: Path, name: str = "scratch") -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder


def test_pull_from_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"there is no folder .*/none"):
        command.main(["pull", str(tmp_path / "none")])


def take(where: Place, tmp_path: Path, index: str = "") -> Path:
    """Take the entry into a cache that is empty."""
    shared = SharedCache(where, scratch(tmp_path, "in"), index)
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    return Store(tmp_path / "other").get_or_make("kernel", KEY, lambda folder: shared.take("kernel", KEY, folder))


def same(path: Path, other: Path) -> bool:
    done = subprocess.run(["diff", "-r", "--no-dereference", "--exclude=.used", path, other], check=False)
    modes = [path.stat().st_mode for path in (path / "source/tool", other / "source/tool")]
    return done.returncode == 0 and modes[0] == modes[1]


@pytest.fixture
def folder(tmp_path: Path, store: Store) -> Path:
    """A folder that has the entry."""
    shared = SharedCache(Folder(tmp_path / "share"), scratch(tmp_path))
    assert shared.give("kernel", KEY, store.path("kernel", KEY))
    assert not shared.give("kernel", KEY, store.path("kernel", KEY)), "it was there"
    return tmp_path / "share"


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """A web server that shows the folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as shown:
        thread = threading.Thread(target=shown.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{shown.server_port}"
        shown.shutdown()
        thread.join()


def test_what_was_given_to_a_folder_is_taken_from_there(folder: Path, store: Store, tmp_path: Path) -> None:
    assert same(store.path("kernel", KEY), take(Folder(folder), tmp_path))


def test_what_was_given_to_a_folder_is_taken_by_a_url(server: str, store: Store, tmp_path: Path) -> None:
    assert same(store.path("kernel", KEY), take(Web(server), tmp_path))
    assert not Web(server).take("none", tmp_path / "x", 1)


def test_the_same_entry_makes_the_same_index_everywhere(folder: Path, store: Store, tmp_path: Path) -> None:
    other = SharedCache(Folder(tmp_path / "share-2"), scratch(tmp_path, "scratch-2"))
    other.give("kernel", KEY, store.path("kernel", KEY))
    assert other.sha256 == hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()


@pytest.mark.parametrize("byte", [0, 40, -1])
def test_a_file_that_was_changed_does_not_come_in(folder: Path, tmp_path: Path, byte: int) -> None:
    content = bytearray((folder / NAME).read_bytes())
    content[byte] ^= 1
    (folder / NAME).write_bytes(content)
    with pytest.raises(SetupError, match=f"{NAME} does not have the hash in the index"):
        take(Folder(folder), tmp_path)
    assert not (tmp_path / "other/kernel" / KEY).exists()


def test_a_file_that_is_too_large_or_gone_does_not_come_in(folder: Path, server: str, tmp_path: Path) -> None:
    with (folder / NAME).open("ab") as out:
        out.write(b"x")
    for where in (Folder(folder), Web(server)):
        with pytest.raises(SetupError, match=r"has more than \d+ bytes"):
            take(where, tmp_path)
    (folder / NAME).unlink()
    for where in (Folder(folder), Web(server)):
        with pytest.raises(SetupError, match="which is missing"):
            take(where, tmp_path)


def test_who_names_the_index_gets_that_one_alone(folder: Path, tmp_path: Path) -> None:
    index = hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()
    assert take(Folder(folder), tmp_path, index)
    (folder / INDEX).write_text((folder / INDEX).read_text() + "\n")
    with pytest.raises(SetupError, match="not the wanted one"):
        take(Folder(folder), tmp_path, index)
    with pytest.raises(SetupError, match="has no index"):
        take(Folder(tmp_path / "empty"), tmp_path / "in", index)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "sealproof-cache-2", "files": {}}',
        json.dumps({"files": {f"../{NAME}": {"sha256": "0" * 64, "size": 1}}}),
        json.dumps({"files": {f"keys-{KEY}": {"sha256": "0" * 64, "size": 1}}}),
        json.dumps({"files": {NAME: {"sha256": "0" * 63, "size": 1}}}),
        json.dumps({"files": {NAME: {"sha256": "0" * 64, "size": 0}}}),
    ],
)
def test_an_index_that_is_none_is_refused(folder: Path, tmp_path: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    with pytest.raises(SetupError, match="index is malformed"):
        SharedCache(Folder(folder), scratch(tmp_path))


def test_two_who_give_at_the_same_time_are_both_in_the_index(tmp_path: Path) -> None:
    names = [f"kernel-{number:020x}" for number in range(8)]
    barrier = threading.Barrier(len(names))

    def note(name: str) -> None:
        mine = SharedCache(Folder(tmp_path / "share"), scratch(tmp_path, name))
        barrier.wait()
        mine.note(name, File(sha256="0" * 64, size=1))

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(note, names))
    assert set(SharedCache(Folder(tmp_path / "share"), scratch(tmp_path)).index.files) == set(names)


def test_nothing_is_given_to_a_url_and_an_unknown_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(SetupError, match="a URL is read-only"):
        Web("https://example.org").give("x", tmp_path / "x")
    for nowhere in ("ftp://example.org", "", " "):  # the folder here is "."
        with pytest.raises(UserInputError, match="cannot hold a shared cache"):
            place(nowhere, tmp_path)
    assert isinstance(place("oci://example.org/a", tmp_path), Registry)
    assert isinstance(place("https://example.org/a", tmp_path), Web)
    assert isinstance(place("~/a", tmp_path), Folder)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SetupError, match="refused"):
            Web(f"http://127.0.0.1:{free.getsockname()[1]}").take("x", tmp_path / "x", 1)


# --- the command ------------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, cache: Path, *argv: str) -> int:
    """The command, on a machine where a sign-off needs two entries."""

    def fetch_needed(_: object, store: AskingStore) -> None:
        for kind in ("kernel", "module"):
            with command._lacking():
                store.get_or_make(kind, KEY, fill)

    monkeypatch.setattr(command, "fetch_needed", fetch_needed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return command.main(list(argv))


def test_the_command_gives_what_is_there_and_takes_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    share = str(tmp_path / "share")
    first, second = Store(tmp_path / "one/sealproof"), Store(tmp_path / "other/sealproof")
    assert run(monkeypatch, tmp_path / "one", "push", share) == NOT_ALL
    assert not (tmp_path / "one/sealproof/kernel").exists(), "it made something"
    first.get_or_make("kernel", KEY, fill)
    assert run(monkeypatch, tmp_path / "one", "push", share) == NOT_ALL
    output = capsys.readouterr().out
    assert f"kernel-{KEY}: given\nmodule-{KEY}: not made yet\n" in output
    assert run(monkeypatch, tmp_path / "other", "pull", share) == NOT_ALL
    assert f"module-{KEY}: not there: the sign-off makes it" in capsys.readouterr().out
    first.get_or_make("module", KEY, fill)
    assert run(monkeypatch, tmp_path / "one", "push", share) == ALL_THERE
    index = capsys.readouterr().out.splitlines()[-1].removeprefix("index ")
    assert run(monkeypatch, tmp_path / "other", "pull", share, "--index", index) == ALL_THERE
    for kind in ("kernel", "module"):
        assert same(first.path(kind, KEY), second.get(kind, KEY) or tmp_path)


# --- a registry -------------------------------------------------------------------------------------------------------


def test_an_image_is_a_layout_as_oci_has_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    write_image(tmp_path / "image", "name", file)

    def blob(message: dict[str, object]) -> bytes:
        content = (tmp_path / "image/blobs/sha256" / str(message["digest"]).removeprefix("sha256:")).read_bytes()
        assert message["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert message["size"] == len(content)
        return content

    (listed,) = json.loads((tmp_path / "image/index.json").read_bytes())["manifests"]
    manifest = json.loads(blob(listed))
    assert listed["annotations"] == {"org.opencontainers.image.ref.name": "name"}
    assert json.loads(blob(manifest["config"]))["os"] == "linux"
    assert [blob(layer) for layer in manifest["layers"]] == [b"content"]


def test_without_skopeo_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="skopeo is not installed") as error:
        Registry("127.0.0.1:1/x", tmp_path).take("x", tmp_path / "x", 1)
    assert error.value.hint == "apt-get install skopeo"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of this machine."""
    for program in ("docker-registry", "skopeo"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {program}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root, configuration = tmp_path / "registry", tmp_path / "registry.yml"
    configuration.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as out:
        process = spawn(["docker-registry", "serve", str(configuration)], stdout=out, stderr=subprocess.STDOUT)
    try:
        poll_until(lambda: _answers(port), Deadline(30), "the registry to answer")
        yield f"127.0.0.1:{port}/team/sealproof"
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_what_was_given_to_a_registry_is_taken_from_there(registry: str, store: Store, tmp_path: Path) -> None:
    where = Registry(registry, scratch(tmp_path, "skopeo"), plain_http=True)
    assert not where.take("none", tmp_path / "none", 1)
    shared = SharedCache(where, scratch(tmp_path))
    assert shared.give("kernel", KEY, store.path("kernel", KEY))
    assert same(store.path("kernel", KEY), take(where, tmp_path, shared.sha256))
    with pytest.raises(SetupError, match="has more than 10 bytes"):
        where.take(NAME, tmp_path / "x", 10)


# --- a disk that is full ---


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: Path, to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)


@pytest.mark.usefixtures("full_disk")
def test_a_place_that_is_full_is_named_and_keeps_nothing_half(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"whole")
    with pytest.raises(NoSpaceError) as caught:
        Folder(tmp_path / "share").give("kernel", tmp_path / "file")
    assert f"no space left for {tmp_path / 'share'}" in caught.value.message
    assert caught.value.hint.endswith("or point PLACE to a larger disk")
    assert not list((tmp_path / "share").iterdir())


@pytest.mark.usefixtures("full_disk")
def test_a_cache_that_is_full_is_not_told_as_a_place_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "share/kernel").write_bytes(b"whole")
    with pytest.raises(NoSpaceError) as caught:
        Folder(tmp_path / "share").take("kernel", tmp_path / "in", 100)
    assert f"no space left for {tmp_path / 'in'}" in caught.value.message
    assert caught.value.hint.endswith("or point XDG_CACHE_HOME to a larger disk")


def test_a_cache_that_is_full_is_not_told_as_a_server_that_fails(folder: Path, server: str) -> None:
    name = next(file.name for file in folder.iterdir() if not file.name.startswith("."))
    with pytest.raises(NoSpaceError, match="no space left for /dev/full"):
        Web(server).take(name, Path("/dev/full"), 1 << 40)
