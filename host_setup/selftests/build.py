# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles the kernel's selftests by their own makefiles, and packs them into a disk for a host.

They come from the kernel's source without the series: so the same programs run on both kernels of a comparison, and no
series can change the test that it has to pass. They are static, and run on any root file system.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.commands import output
from common.environment import environment, shell_line
from common.errors import CommandError, ImageError, KernelError
from common.processes import run_tree
from common.progress import Step, Terminal
from common.store import GIB, Store, digest
from host_setup.kernel import compiler_output
from host_setup.kernel.patches import source_tree
from host_setup.kernel.source import Source
from host_setup.limits import usable_cpus
from host_setup.selftests.suites import MM_PROGRAMS

STAGE = "selftests build"
RECIPE = "1"  # part of the key: raise it when what is built changes though its inputs do not
EXPECTED = 90.0  # seconds
_NEEDS = GIB
_SELFTESTS = "tools/testing/selftests"
_LIBRARIES = 30  # objects that are not a test's own; only for the progress
# The same bytes whenever it is made.
_EROFS = ("mkfs.erofs", "--quiet", "-x-1", "-zlz4", "-T0", "-U", "00000000-0000-0000-0000-000000000000", "--all-root")


@dataclass(frozen=True, slots=True)
class Selftests:
    """The compiled selftests.

    :ivar image: an erofs image with a folder for each suite. :ivar kvm: the programs of the KVM suite to run.
    """

    key: str
    image: Path
    kvm: tuple[str, ...]


def selftests(source: Source, store: Store, terminal: Terminal) -> Selftests:
    """The selftests of a kernel's source, compiled if the cache lacks them.

    :raises KernelError: with the compiler's lines and the commands that repeat it.
    :raises ImageError: they cannot be packed.
    """
    compiler = output(["gcc", "--version"], stage=STAGE).decode().splitlines()[0]
    key = digest(RECIPE, compiler, source.identity, *MM_PROGRAMS)

    def make(folder: Path) -> None:
        log = store.root / "logs" / f"selftests-{key}.log"
        log.unlink(missing_ok=True)
        tree = source_tree(source, (), store, terminal, log.parent)
        work = _Work(tree, folder / "linux", folder / "out", log)
        with terminal.step("build the kernel's selftests", expected=EXPECTED) as step:
            kvm = work.build(step)
        packed = folder / "packed"
        work.install(packed, kvm)
        _pack(packed, folder / "selftests.erofs")
        (folder / "kvm.json").write_text(json.dumps(kvm), encoding="utf-8")
        for scratch in (work.tree, work.out, packed):
            shutil.rmtree(scratch)
        shutil.copy2(log, folder / "build.log")
        log.unlink()

    entry = store.get_or_make("selftests", key, make, need=_NEEDS)
    kvm: list[str] = json.loads((entry / "kvm.json").read_text(encoding="utf-8"))
    return Selftests(key, entry / "selftests.erofs", tuple(kvm))


class _Work:
    """One build: in a tree of hard links, since mm's makefile writes into its own folder.

    :param pristine: the source in the cache. :param tree: where its copy goes. :param out: where the programs go.
    """

    def __init__(self, pristine: Path, tree: Path, out: Path, log: Path) -> None:
        self.pristine = pristine
        self.tree = tree
        self.out = out
        self.log = log

    def _make(self, *words: str) -> list[str]:
        jobs = usable_cpus() + 1
        return ["make", f"-j{jobs}", "--no-print-directory", *words]

    def _headers(self) -> list[str]:
        return self._make(f"--directory={self.tree}", "--makefile=Makefile", "headers")  # no GNUmakefile beside it

    def _suite(self, suite: str, *words: str) -> list[str]:
        folder = f"--directory={self.tree / _SELFTESTS / suite}"
        return self._make(folder, f"OUTPUT={self.out / suite}", "USERLDFLAGS=-static", *words)

    def build(self, step: Step) -> list[str]:
        """Compile all of it.

        :returns: the programs of the KVM suite to run.
        :raises KernelError: something does not compile.
        """
        for suite in ("kvm", "mm"):
            (self.out / suite).mkdir(parents=True)
        self._run(["cp", "--archive", "--link", str(self.pristine), str(self.tree)], step, 0)
        self._run(self._headers(), step, 0)
        kvm = self._kvm_programs()
        objects = 2 * len(kvm) + _LIBRARIES + len(MM_PROGRAMS)
        self._run(self._suite("mm", *(str(self.out / "mm" / name) for name in MM_PROGRAMS)), step, objects)
        self._run(self._suite("kvm", "all"), step, objects)
        return kvm

    def _run(self, command: Sequence[str], step: Step, objects: int) -> None:
        """Run one command of the build. ``objects``: how many the whole build has; 0 when not yet known."""
        compiled = self.log.read_text(encoding="utf-8", errors="replace").count("\ngcc ") if self.log.exists() else 0

        def on_line(line: str) -> None:
            nonlocal compiled
            if line.startswith("gcc ") and objects:
                compiled += 1
                step.update(min(0.99, compiled / objects), Path(line.rsplit(maxsplit=1)[-1]).name)

        try:
            run_tree(command, log=self.log, stage=STAGE, on_line=on_line)
        except CommandError as error:
            complaints = compiler_output.errors(self.log.read_text(encoding="utf-8", errors="replace"))
            raise KernelError(
                f"the kernel's selftests do not build\n{complaints or error.tail}",
                stage=STAGE,
                artefact=self.log,
                hint=f"repeat it: {self._repeat(command)}",
            ) from error

    def _repeat(self, command: Sequence[str]) -> str:
        """The commands that repeat a failure in folders of their own; the build's are about to go."""
        again = self.log.with_suffix("")
        headers = shell_line(self._headers())
        steps = [
            f"mkdir -p {shlex.quote(str(self.out))}/kvm {shlex.quote(str(self.out))}/mm",
            f"cp -al {shlex.quote(str(self.pristine))} {shlex.quote(str(self.tree))}",
            headers,
            shell_line(command),
        ]
        return " && ".join(dict.fromkeys(steps)).replace(str(self.tree.parent), str(again))

    def _kvm_programs(self) -> list[str]:
        """What the KVM suite's makefile counts among its tests for this architecture: programs and scripts."""
        rule = r'sealproof-tests: ; @printf "%s\n" $(TEST_GEN_PROGS) $(TEST_PROGS)'
        listed = output(self._suite("kvm", f"--eval={rule}", "sealproof-tests"), stage=STAGE)
        lines = listed.decode().splitlines()
        return [line.removeprefix(f"{self.out / 'kvm'}/") for line in lines if line.strip()]

    def install(self, folder: Path, kvm: Sequence[str]) -> None:
        """Copy what runs: compiled programs without their debug information, and scripts.

        :raises ImageError: a test is not there.
        """
        programs = [file for file in self.out.rglob("*") if file.is_file() and os.access(file, os.X_OK)]
        for file in programs:
            target = folder / file.relative_to(self.out)
            target.parent.mkdir(parents=True, exist_ok=True)
            run_tree(["strip", "-o", str(target), str(file)], log=self.log, stage=STAGE)
        for name in kvm:
            target = folder / "kvm" / name
            script = self.tree / _SELFTESTS / "kvm" / name
            if not target.exists() and script.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(script, target)
        files = [*(folder / "kvm" / name for name in kvm), *(folder / "mm" / name for name in MM_PROGRAMS)]
        missing = [str(file.relative_to(folder)) for file in files if not file.exists()]
        if missing:
            raise ImageError(f"selftests were not built: {', '.join(missing)}", stage=STAGE, artefact=self.log)


def _pack(folder: Path, image: Path) -> None:
    """Make the disk.

    :raises ImageError: it cannot be made.
    """
    done = subprocess.run(
        [*_EROFS, str(image), str(folder)], env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ImageError(
            f"mkfs.erofs failed on the selftests: {done.stderr.strip()}", hint="is erofs-utils installed completely?"
        )
