# SPDX-License-Identifier: GPL-2.0-or-later
"""``sealproof share-cache``: give kernels and images to a shared place, or take from there what a sign-off needs.

Shared are the files that take long to make and hold no secret: the kernel, its modules, the root file systems, the
programs. Keys, and files made with them (the guest's image, saved states), stay on each machine. Each file that is
pulled must have the SHA-256 that the place's index names. --index fixes the index, and so every bit of all files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import SetupError, UserInputError
from common.names import path_text
from common.processes import run_tree
from common.program import end_with
from common.progress import Terminal
from common.store import GIB, Store, file_sha256, scratch_folder
from guest_images.programs import MODULES, programs
from guest_images.rootfs import rootfs
from host_setup.kernel import layers, series, source
from host_setup.kernel.build import build, module
from host_setup.kernel.series import Protection
from host_setup.plan import NotMadeError
from host_setup.provision import KINDS, Settings, accelerator, kernel_request, with_accelerator
from host_setup.shared.places import PLACE, STAGE, Folder, Place, place
from host_setup.this_machine import survey
from host_setup.tools.fresh_host import settings

INDEX = "index.json"
KINDS_SHARED = ("kernel", "module", "rootfs", "programs")
ALL_THERE, NOT_ALL = 0, 1  # exit status
AGAIN = "push it again from a machine that you trust"
_LARGEST_INDEX = 16 << 20  # bytes
_TAR = ("tar", "--zstd")


class File(BaseModel):
    """A file of the place, with an entry of the cache."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=1, le=64 * GIB)]


class Index(BaseModel):
    """What a place has: files by the kind and key of their entries, ``kernel-0123456789abcdef0123``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Annotated[str, Field(pattern=r"^sealproof-cache-1$")] = "sealproof-cache-1"
    files: dict[Annotated[str, Field(pattern=r"^(kernel|module|rootfs|programs)-[0-9a-f]{20}$")], File] = {}


class SharedCache:
    """A shared cache.

    :param index_sha256: SHA-256 of its index; empty: any. :raises SetupError: the place has another
        index, or none that is valid.
    """

    def __init__(self, where: Place, scratch: Path, index_sha256: str = "") -> None:
        self._place = where
        self._scratch = scratch
        self._index_sha256 = index_sha256
        self.index = self._read()

    def take(self, kind: str, key: str, folder: Path) -> None:
        """Unpack an entry of its index into an empty folder.

        :raises SetupError: what comes is not what the index names.
        """
        name = f"{kind}-{key}"
        listed, file = self.index.files[name], self._scratch / name
        if not self._place.take(name, file, listed.size):
            raise SetupError(f"the index names {name}, which is missing", stage=STAGE, hint=AGAIN)
        if file_sha256(file) != listed.sha256:
            raise SetupError(
                f"{name} does not have the hash in the index: {file_sha256(file)}",
                stage=STAGE,
                hint=AGAIN,
            )
        unpack = [*_TAR, "--extract", f"--file={file}", f"--directory={folder}", "--no-same-owner"]
        run_tree(unpack, log=self._scratch / "tar.log", stage=STAGE)
        file.unlink()

    def give(self, kind: str, key: str, entry: Path) -> bool:
        """Pack an entry and have it shared; returns whether it was not yet."""
        name = f"{kind}-{key}"
        if name in self.index.files:
            return False
        file = self._scratch / name
        pack = [
            *_TAR, "--create", f"--file={file}", f"--directory={entry}", "--sort=name", "--mtime=@0", "--owner=0",
            "--group=0", "--numeric-owner", "--exclude=./.used", "--exclude=./.sums*", ".",
        ]  # fmt: skip
        run_tree(pack, log=self._scratch / "tar.log", stage=STAGE)
        self._place.give(name, file)
        listed = File(sha256=file_sha256(file), size=file.stat().st_size)
        file.unlink()
        self.note(name, listed)
        return True

    def note(self, name: str, listed: File) -> None:
        """Add a file that is there to the index."""
        with self._place.lock() or nullcontext():
            self.index = Index(files={**self._read().files, name: listed})
            fresh = self._scratch / INDEX
            fresh.write_text(self.index.model_dump_json(indent=1), encoding="ascii")
            self._place.give(INDEX, fresh)

    def _read(self) -> Index:
        file = self._scratch / INDEX
        if not self._place.take(INDEX, file, _LARGEST_INDEX):
            if self._index_sha256:
                raise SetupError("the shared cache has no index", stage=STAGE)
            return Index()
        if self._index_sha256 and file_sha256(file) != self._index_sha256:
            raise SetupError(
                f"the shared cache's index has the SHA-256 {file_sha256(file)}, not the wanted one",
                stage=STAGE,
                hint=f"{AGAIN}, and name its index's SHA-256",
            )
        try:
            return Index.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise SetupError(
                f"the shared cache's index is malformed: {error.errors()[0]['msg']}", stage=STAGE, hint=AGAIN
            ) from error

    @property
    def sha256(self) -> str:
        """What names its index; empty: there is none yet."""
        file = self._scratch / INDEX
        return file_sha256(file) if file.exists() else ""


class AskingStore(Store):
    """The cache, which is asked for what a sign-off needs; nothing that can be shared is made in it.

    :param missing: gets an entry that is not there, and returns whether it could.
    :ivar there: the entries that are there, by kind and key. :ivar lacking: those that are not.
    """

    def __init__(self, root: Path, missing: Callable[[Store, str, str], bool]) -> None:
        super().__init__(root)
        self._missing = missing
        self.there: dict[tuple[str, str], Path] = {}
        self.lacking: list[tuple[str, str]] = []

    def get(self, kind: str, key: str) -> Path | None:
        """An entry that is there now.

        :raises NotMadeError: it is not.
        """
        path = super().get(kind, key)
        if kind not in KINDS_SHARED:
            return path
        if path is None and self._missing(Store(self.root), kind, key):
            path = super().get(kind, key)
        if path is None:
            self.lacking.append((kind, key))
            raise NotMadeError(kind)
        self.there[kind, key] = path
        return path

    def get_or_make(self, kind: str, key: str, make: Callable[[Path], None], *, need: int = 0) -> Path:
        """As ``get``; what is not shared is made: a kernel's source must be there before its kernel has a key."""
        return self.get(kind, key) or super().get_or_make(kind, key, make, need=need)


def fetch_needed(chosen: Settings, store: AskingStore) -> None:
    """Ask the cache for all that a sign-off needs of what can be shared."""
    chosen = with_accelerator(chosen, accelerator(chosen.host, None, survey()))
    terminal = Terminal()
    with _lacking():
        programs(store, terminal)
    with _lacking():
        rootfs(store, terminal)
    with _lacking():
        kernel = build(kernel_request(chosen, store), store, terminal)
        module(kernel, MODULES, store, terminal)


@contextmanager
def _lacking() -> Iterator[None]:
    try:
        yield
    except NotMadeError:
        return


def options_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="sealproof share-cache", description=__doc__)
    parser.add_argument("way", choices=("push", "pull"), help="push: give; pull: take")
    parser.add_argument("place", metavar=PLACE, help="a folder, https://... (pull alone), or oci://REGISTRY/REPOSITORY")
    parser.add_argument("--index", default="", metavar="SHA256", help="pull: SHA-256 of the wanted index")
    parser.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    parser.add_argument("--series", default=series.DEFAULT, metavar="NAME", help="as of the sign-off")
    source.add_option(parser)
    parser.add_argument("--layers", default=(), type=layers.parse_names, metavar="NAMES", help="likewise")
    parser.add_argument(
        "--mode", choices=[str(mode) for mode in Protection], default=str(Protection.PROTECTED), help="likewise"
    )
    parser.add_argument("--host", choices=KINDS, default="auto", help="likewise")
    return parser


def main(argv: list[str]) -> int:
    """Give or take; returns the exit status."""
    option = options_parser().parse_args(argv)
    chosen = settings(option)
    with scratch_folder() as scratch:
        where = place(option.place, scratch, plain_http=option.plain_http)
        if option.way == "pull" and isinstance(where, Folder) and not where.is_there:
            raise UserInputError(
                f"there is no folder {path_text(option.place)}", stage=STAGE, hint="name the one that 'push' has filled"
            )
        shared = SharedCache(where, scratch, option.index)

        def take(store: Store, kind: str, key: str) -> bool:
            if option.way == "push" or f"{kind}-{key}" not in shared.index.files:
                return False
            store.get_or_make(kind, key, lambda folder: shared.take(kind, key, folder))
            _say(f"{kind}-{key}: taken")
            return True

        store = AskingStore(chosen.store().root, take)
        fetch_needed(chosen, store)
        for (kind, key), entry in store.there.items() if option.way == "push" else ():
            _say(f"{kind}-{key}: {'given' if shared.give(kind, key, entry) else 'was there'}")
        for kind, key in store.lacking:
            _say(f"{kind}-{key}: {'not made yet' if option.way == 'push' else 'not there: the sign-off makes it'}")
        _say(f"index {shared.sha256 or 'none'}")
    return NOT_ALL if store.lacking else ALL_THERE


def _say(line: str) -> None:
    sys.stdout.write(f"{path_text(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    end_with(main)
