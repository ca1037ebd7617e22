# SPDX-License-Identifier: GPL-2.0-or-later
"""A driver of the kernel's own source that its configuration leaves out, as a module."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.progress import Terminal
from common.store import Store, digest, scratch_folder
from host_setup.kernel.build import BuiltKernel, Request, module
from host_setup.kernel.patches import source_tree


def driver(kernel: BuiltKernel, request: Request, folder: str, store: Store, terminal: Terminal) -> Path:
    """The module, which has the folder's name.

    :param request: for the kernel. :param folder: of the driver in the kernel's source; each C file of it is a part.
    :raises KernelError: it does not compile.
    """
    name = Path(folder).name

    def make(entry: Path) -> None:
        with scratch_folder() as scratch:
            tree = source_tree(request.source, request.series.patches, store, terminal, scratch)
            sources = scratch / name
            shutil.copytree(tree / folder, sources)
            parts = " ".join(f"{file.stem}.o" for file in sorted(sources.glob("*.c")))
            (sources / "Kbuild").write_text(f"obj-m := {name}.o\n{name}-y := {parts}\n", encoding="ascii")
            shutil.copy2(module(kernel, sources, store, terminal) / f"{name}.ko", entry)

    return store.get_or_make("driver", digest(kernel.key, folder, Path(__file__)), make) / f"{name}.ko"
