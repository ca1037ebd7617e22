# SPDX-License-Identifier: GPL-2.0-or-later
"""How selftests are compiled and packed, with a kernel source that has two of them and mm's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from common.errors import KernelError
from common.progress import Terminal
from common.store import Store
from host_setup.kernel import source
from host_setup.selftests import build as module
from host_setup.selftests.suites import MM_PROGRAMS

pytestmark = pytest.mark.skipif(shutil.which("mkfs.erofs") is None, reason="erofs-utils is not installed")

TOP = """\
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 1
EXTRAVERSION =
KERNELVERSION = 6.12.1
headers:
\tmkdir -p usr/include
\techo '#define ANSWER 0' > usr/include/uapi.h
"""
# As the real ones: a list of programs, OUTPUT in front of them, and the headers below usr/.
KVM = """\
TEST_GEN_PROGS := $(addprefix $(OUTPUT)/,x86_64/good plain)
TEST_PROGS := x86_64/script.sh
all: $(TEST_GEN_PROGS)
$(OUTPUT)/%: %.c
\tmkdir -p $(dir $@)
\tgcc $(USERLDFLAGS) -I../../../../usr/include $< -o $@
"""
MM = "$(OUTPUT)/%: any.c\n\techo generated > local_config.h\n\tgcc $(USERLDFLAGS) -I../../../../usr/include $< -o $@\n"
PROGRAM = "#include <uapi.h>\nint main(void) { return ANSWER; }\n"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    folder = tmp_path / "linux"
    files = {
        "Makefile": TOP,
        "tools/testing/selftests/kvm/Makefile": KVM,
        "tools/testing/selftests/kvm/x86_64/good.c": PROGRAM,
        "tools/testing/selftests/kvm/plain.c": PROGRAM,
        "tools/testing/selftests/kvm/x86_64/script.sh": "#!/bin/sh\nexit 4\n",
        "tools/testing/selftests/mm/Makefile": MM,
        "tools/testing/selftests/mm/any.c": PROGRAM,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "tools/testing/selftests/kvm/x86_64/script.sh").chmod(0o755)
    return folder


def make(kernel: Path, cache: Path) -> module.Selftests:
    store = Store(cache)
    return module.selftests(source.resolve(kernel, store), store, Terminal())


def test_all_programs_and_scripts_are_on_the_disk_static_and_runnable(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCH", "arm64")  # of somebody else's cross build
    monkeypatch.setenv("LDFLAGS", "--nonsense")
    built = make(kernel, tmp_path / "cache")
    assert built.kvm == ("x86_64/good", "plain", "x86_64/script.sh")
    subprocess.run(
        ["fsck.erofs", f"--extract={tmp_path / 'out'}", str(built.image)], check=True, stdout=subprocess.DEVNULL
    )
    names = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert names == {*(f"kvm/{name}" for name in built.kvm), *(f"mm/{name}" for name in MM_PROGRAMS)}
    program = tmp_path / "out/kvm/x86_64/good"
    assert subprocess.run([program], check=False).returncode == 0
    headers = subprocess.run(["readelf", "--program-headers", program], capture_output=True, text=True, check=True)
    assert "INTERP" not in headers.stdout  # nothing of the host's is loaded
    assert subprocess.run([tmp_path / "out/kvm/x86_64/script.sh"], check=False).returncode == 4
    # The source in the cache is as it was.
    assert not list((tmp_path / "cache/source").rglob("local_config.h"))
    assert not list((tmp_path / "cache/source").rglob("uapi.h"))


def test_they_are_compiled_once_for_a_source(kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(kernel, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_tree", None)
        assert make(kernel, tmp_path / "cache") == first
    (kernel / "tools/testing/selftests/kvm/plain.c").write_text(f"{PROGRAM}\n// another\n")
    assert make(kernel, tmp_path / "cache").key != first.key


def test_a_program_that_does_not_compile_is_told_with_its_lines_and_the_command(kernel: Path, tmp_path: Path) -> None:
    (kernel / "tools/testing/selftests/kvm/x86_64/good.c").write_text("int main(void) { return nobody; }\n")
    with pytest.raises(KernelError) as caught:
        make(kernel, tmp_path / "cache")
    assert "x86_64/good.c:1:25: error:" in caught.value.message
    assert "nobody" in caught.value.message
    assert caught.value.artefact is not None
    assert caught.value.artefact.exists()
    again = subprocess.run(
        ["sh", "-c", caught.value.hint.removeprefix("repeat it: ")], capture_output=True, text=True, check=False
    )
    assert again.returncode != 0
    assert "nobody" in again.stderr


def test_a_test_that_its_makefile_names_and_does_not_build_is_missed(kernel: Path, tmp_path: Path) -> None:
    makefile = kernel / "tools/testing/selftests/kvm/Makefile"
    makefile.write_text(KVM.replace("all: $(TEST_GEN_PROGS)", "all: $(OUTPUT)/plain"))
    with pytest.raises(module.ImageError, match="kvm/x86_64/good"):
        make(kernel, tmp_path / "cache")
