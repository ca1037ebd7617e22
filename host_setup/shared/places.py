# SPDX-License-Identifier: GPL-2.0-or-later
"""Where shared files lie: a folder, a URL that is only read, or an OCI registry, by skopeo. Each file has a plain name.

In a registry each file is the one layer of an image, whose tag is the file's name. So registries keep them as they
keep images, and ``skopeo`` moves them, with the user's own login.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from common.errors import CommandError, SetupError, UserInputError
from common.names import path_text
from common.paths import expand_home
from common.processes import run_tree
from common.store import disk_errors, file_sha256

STAGE = "shared cache"
PATIENCE = 60.0  # seconds without a byte
PLACE = "PLACE"  # the argument that names one
_OCI, _WEB = "oci://", ("http://", "https://")
_CHUNK = 1 << 20  # bytes
_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


class Place(Protocol):
    """A place for files."""

    def take(self, name: str, to: Path, most: int) -> bool:
        """Copy a file from there; returns whether it is there.

        :param most: bytes that it may have. :raises SetupError: the place does not answer, or the file is larger.
        """

    def give(self, name: str, file: Path) -> None:
        """Copy a file there, in place of what has its name.

        :raises SetupError: that is not possible.
        """

    def lock(self) -> FileLock | None:
        """Held while the index changes; None: there is none, and of two writers the later one is right."""


def place(text: str, scratch: Path, *, plain_http: bool = False) -> Place:
    """The place that a user names.

    :param scratch: a folder that goes afterwards. :param plain_http: the registry has no TLS.
    :raises UserInputError: the text names no place.
    """
    if text.startswith(_OCI):
        return Registry(text.removeprefix(_OCI).rstrip("/"), scratch, plain_http=plain_http)
    if text.startswith(_WEB):
        return Web(text.rstrip("/"))
    if "://" in text or not text.strip():
        raise UserInputError(
            f"{path_text(text) or 'a place without a name'} cannot hold a shared cache",
            stage=STAGE,
            hint="name a folder, https://..., or oci://REGISTRY/REPOSITORY",
        )
    return Folder(expand_home(text).absolute())


class Folder:
    """A folder, for instance on a network file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def is_there(self) -> bool:
        """Whether anything can be in it."""
        return self._folder.is_dir()

    def take(self, name: str, to: Path, most: int) -> bool:
        """As of ``Place``."""
        file = self._folder / name
        if not file.is_file():
            return False
        if file.stat().st_size > most:
            raise _too_large(name, most)
        try:
            with disk_errors(to):
                shutil.copyfile(file, to)
        except OSError as error:
            raise SetupError(f"{path_text(file)} cannot be read: {error.strerror}", stage=STAGE) from error
        return True

    def give(self, name: str, file: Path) -> None:
        """As of ``Place``."""
        fresh = self._folder / f".{name}.new"
        try:
            with disk_errors(self._folder, PLACE):
                self._folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, fresh)
                fresh.replace(self._folder / name)
        except OSError as error:
            raise SetupError(f"{path_text(self._folder)} cannot be written: {error.strerror}", stage=STAGE) from error
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def lock(self) -> FileLock | None:
        """As of ``Place``."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"{path_text(self._folder)} cannot be made: {error.strerror}", stage=STAGE) from error
        return FileLock(self._folder / ".lock")


class Web:
    """What a web server shows of such a folder."""

    def __init__(self, url: str) -> None:
        self._url = url

    def take(self, name: str, to: Path, most: int) -> bool:
        """As of ``Place``."""
        url = f"{self._url}/{name}"
        try:
            with (
                disk_errors(to),  # whatever of the file is written last, when it is closed
                urllib.request.urlopen(url, timeout=PATIENCE) as answer,  # noqa: S310  place() has looked
                to.open("wb") as out,
            ):
                while data := answer.read(_CHUNK):
                    out.write(data)
                    if out.tell() > most:
                        raise _too_large(name, most)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise SetupError(f"{path_text(url)}: {error.code} {error.reason}", stage=STAGE) from error
        except (OSError, ValueError) as error:  # ValueError: no URL
            reason = getattr(error, "reason", error)
            raise SetupError(
                f"{path_text(url)}: {getattr(reason, 'strerror', None) or reason}",
                stage=STAGE,
                hint="look whether the address is right and can be reached from here",
            ) from error
        return True

    def give(self, name: str, file: Path) -> None:
        """Nothing can be given to it."""
        raise SetupError(
            f"{path_text(self._url)}: a URL is read-only: {name} ({file.stat().st_size} bytes) is not sent",
            stage=STAGE,
            hint="push to the folder that the web server shows",
        )

    def lock(self) -> FileLock | None:
        """As of ``Place``."""
        return None


class Registry:
    """A repository of an OCI registry.

    :param repository: ``REGISTRY/REPOSITORY``.
    """

    def __init__(self, repository: str, scratch: Path, *, plain_http: bool = False) -> None:
        self._repository = repository
        self._scratch = scratch
        self._plain_http = plain_http

    def take(self, name: str, to: Path, most: int) -> bool:
        """As of ``Place``."""
        folder = self._fresh("taken")
        try:
            self._copy(self._remote(name), f"dir:{folder}", "src")
        except CommandError as error:
            if (
                "manifest unknown" in error.tail
                or "name unknown" in error.tail
                or "repository name not known" in error.tail
            ):
                return False
            raise
        try:
            layers = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["layers"]
            (digest,) = (str(layer["digest"]).removeprefix("sha256:") for layer in layers)
            blob = folder / Path(digest).name
            if blob.stat().st_size > most:
                raise _too_large(name, most)
            blob.replace(to)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SetupError(f"{self._remote(name)} is not a file of a shared cache: {error}", stage=STAGE) from error
        return True

    def give(self, name: str, file: Path) -> None:
        """As of ``Place``."""
        folder = self._fresh("given")
        write_image(folder, name, file)
        self._copy(f"oci:{folder}:{name}", self._remote(name), "dest")

    def lock(self) -> FileLock | None:
        """As of ``Place``."""
        return None

    def _remote(self, name: str) -> str:
        return f"docker://{self._repository}:{name}"

    def _fresh(self, name: str) -> Path:
        folder = self._scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _copy(self, source: str, target: str, side: str) -> None:
        """Let skopeo copy an image as it is.

        :param side: which of both is the registry.
        """
        if shutil.which("skopeo") is None:
            raise SetupError("skopeo is not installed", stage=STAGE, hint="apt-get install skopeo")
        insecure = [f"--{side}-tls-verify=false"] if self._plain_http else []
        # Its policy is about containers that are run, and Debian's skopeo has none of its own.
        argv = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", *insecure, source, target]
        run_tree(argv, log=self._scratch / "skopeo.log", stage=STAGE)


def write_image(folder: Path, name: str, file: Path) -> None:
    """Write an OCI image layout, whose one image has a file as its layer (image-spec 1.0)."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(kind: str, content: bytes | Path) -> dict[str, object]:
        if isinstance(content, Path):
            sha256, size = file_sha256(content), content.stat().st_size
            shutil.copyfile(content, blobs / sha256)
        else:
            sha256, size = hashlib.sha256(content).hexdigest(), len(content)
            (blobs / sha256).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{sha256}", "size": size}

    layer = blob(_LAYER, file)
    system = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    image = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": blob(_CONFIG, _json(system)), "layers": [layer]}
    manifest = {**blob(_MANIFEST, _json(image)), "annotations": {"org.opencontainers.image.ref.name": name}}
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [manifest]}))


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value).encode()


def _too_large(name: str, most: int) -> SetupError:
    return SetupError(f"{name} has more than {most} bytes", stage=STAGE)
