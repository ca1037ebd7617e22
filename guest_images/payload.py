# SPDX-License-Identifier: GPL-2.0-or-later
"""The payload: what changes more often than Debian does, as a second read-only disk of the host.

It holds the keys, the host's programs and modules, and what the nested guest boots: kernel and initramfs.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.environment import environment
from common.errors import ImageError
from common.paths import PROJECT
from common.store import Store, digest
from guest_images.archive import File, Link, newc
from guest_images.keys import Keys
from guest_images.programs import PROGRAM, Programs
from guest_images.rootfs import RootFs

RECIPE = PROJECT / "guest_images"
HOST_FILES = {"init": 0o755, "furnish": 0o644, "inittab": 0o644, "services": 0o755, "sshd_config": 0o600}
HOST_MODULES = ("host_attack.ko", "host_bochs.ko", "host_exits.ko", "host_older.ko", "host_oracle.ko", "host_tcg.ko")
LIST, MODULES_LIST = "payload.sha256", "modules.sha256"
"""Beside the image: what its files are, and what all modules are, as ``sha256sum`` lists them."""
GUEST_IMAGE, PROGRAM_FILE = "guest/initramfs", f"programs/{PROGRAM}"
GUEST_MODULES = ("guest_canary.ko", "guest_emulation.ko")


@dataclass(frozen=True, slots=True)
class Payload:
    """The payload disk."""

    image: Path
    key: str


def _initramfs(base: bytes, programs: Programs, modules: Path, keys: Keys) -> bytes:
    """The guest's initramfs: Debian's part, and ours behind it (the kernel takes archives in a row)."""
    files = _programs("sealproof", programs)
    files["init"] = File((RECIPE / "guest" / "init").read_bytes(), 0o755)
    files |= {f"sealproof/{name}": File((modules / name).read_bytes()) for name in GUEST_MODULES}
    files["etc/dropbear/host_key"] = File((keys.folder / "guest_dropbear").read_bytes(), 0o600)
    files["root/.ssh/authorized_keys"] = File((keys.public("client") + "\n").encode(), 0o600)
    return base + newc(files)


def _programs(folder: str, programs: Programs) -> dict[str, File | Link]:
    """The one program that all are, and links to it by their names."""
    links = {f"{folder}/{name}": Link(PROGRAM) for name in programs.names()}
    return {f"{folder}/{PROGRAM}": File(programs.read(PROGRAM), 0o755), **links}


def _sums_text(contents: Mapping[str, bytes]) -> str:
    """Files as ``sha256sum`` lists them; of a link, where it leads to."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(contents.items()))


def payload(store: Store, root: RootFs, programs: Programs, modules: Path, kernel: Path, keys: Keys) -> Payload:
    """The payload for one kernel.

    :param modules: the folder with the compiled kernel modules. :param kernel: the bzImage that the guest boots.
    :raises ImageError: the image cannot be made.
    """
    key = digest(
        Path(__file__),
        *(RECIPE / "host" / name for name in HOST_FILES),
        RECIPE / "guest" / "init",
        root.key,
        programs.key,
        *sorted(modules.glob("*.ko")),
        kernel,
        keys.public("client"),
    )

    def make(folder: Path) -> None:
        files: dict[str, File | Link] = {
            "guest/bzImage": File(kernel.read_bytes()),
            GUEST_IMAGE: File(_initramfs(root.guest_base.read_bytes(), programs, modules, keys)),
            **{f"modules/{name}": File((modules / name).read_bytes()) for name in HOST_MODULES},
            **{f"host/{name}": File((RECIPE / "host" / name).read_bytes(), mode) for name, mode in HOST_FILES.items()},
            "keys/host_key": File((keys.folder / "host").read_bytes(), 0o600),
            "keys/host_key_dropbear": File((keys.folder / "host_dropbear").read_bytes(), 0o600),
            "keys/client_key.pub": File((keys.public("client") + "\n").encode()),
            **_programs("programs", programs),
        }
        contents = {
            path: b"link to " + f.target.encode() if isinstance(f, Link) else f.content for path, f in files.items()
        }
        (folder / LIST).write_text(_sums_text(contents), encoding="utf-8")
        compiled = {path.name: path.read_bytes() for path in modules.glob("*.ko")}
        (folder / MODULES_LIST).write_text(_sums_text(compiled), encoding="utf-8")
        with tempfile.TemporaryDirectory(dir=folder) as tree:
            for path, file in files.items():
                target = Path(tree) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(file, Link):
                    target.symlink_to(file.target)
                    continue
                target.write_bytes(file.content)
                target.chmod(file.mode)
            # The same bytes whenever it is made: a saved host goes on with this disk mounted.
            fixed = ("-T0", "-U", "00000000-0000-0000-0000-000000000000", "--all-root")
            done = subprocess.run(
                ["mkfs.erofs", "--quiet", "-x-1", *fixed, str(folder / "payload.erofs"), tree],
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise ImageError(
                f"mkfs.erofs failed on the payload: {done.stderr.strip()}", hint="is erofs-utils installed completely?"
            )

    return Payload(store.get_or_make("payload", key, make) / "payload.erofs", key)
