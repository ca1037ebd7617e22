# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.paths import PROJECT, make_refuses
from host_setup import this_machine as machine
from host_setup.this_machine import HostKind, KvmTrial, Probes, Survey, choose_host_kind, survey
from host_setup.tools import doctor
from host_setup.tools.doctor import Grade

GIB = 1 << 30
WORKS = KvmTrial(api_version=12, offers_nested=True)
PACKAGES = [
    name
    for line in machine.PACKAGE_LIST.read_text(encoding="utf-8").splitlines()
    if (name := line.partition("#")[0].strip())
]


class FakeMachine:
    """A folder in place of ``/`` and made-up answers of commands; by default a bare Debian 13 without KVM."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trial: KvmTrial | None = None
        self.free_bytes = 50 * GIB
        self.installed = list(PACKAGES)
        self.answers = {
            "ccache": "ccache version 4.11.2\n",
            "dpkg-query": "Debian dpkg-query\n",
            "sudo": "Sudo version 1.9\n",
        }
        self.write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n')
        self.write("proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 6291456 kB\n")
        self.processor("Some CPU", "fpu sse2")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def processor(self, model: str, flags: str) -> None:
        self.write("proc/cpuinfo", f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n\n" * 2)

    def module(self, name: str, nested: str | None) -> None:
        (self.root / "sys/module" / name).mkdir(parents=True)
        if nested is not None:
            self.write(f"sys/module/{name}/parameters/nested", f"{nested}\n")

    def survey(self) -> Survey:
        def run(argv: list[str]) -> str:
            if argv[:2] == ["dpkg-query", "-W"] and "dpkg-query" in self.answers:
                return "".join(f"installed {name}\n" for name in self.installed if name in argv)
            return self.answers.get(argv[0], "")

        probes = Probes(
            root=self.root,
            run=run,
            try_kvm=lambda _: self.trial,
            free=lambda _: self.free_bytes,
            cache=self.root / "cache",
            checkout=self.root / "checkout",
        )
        return survey(probes)


@pytest.fixture
def fake(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def finding(machine_survey: Survey, subject: str) -> doctor.Finding:
    return next(each for each in doctor.examine(machine_survey) if each.subject == subject)


def stops(machine_survey: Survey) -> list[str]:
    return [each.subject for each in doctor.examine(machine_survey) if each.state is Grade.STOP]


def as_root(machine_survey: Survey) -> Survey:
    return replace(machine_survey, user=replace(machine_survey.user, is_root=True))


def as_user(machine_survey: Survey, *, sudo: bool) -> Survey:
    user = replace(machine_survey.user, name="kim", is_root=False, has_sudo=sudo, subordinate_ids=True, namespaces=True)
    return replace(machine_survey, user=user)


def test_bare_machine_without_kvm_uses_the_emulated_host_and_nothing_stops_it(fake: FakeMachine) -> None:
    machine_survey = as_root(fake.survey())
    assert choose_host_kind(machine_survey) == machine.Choice(HostKind.EMULATED, "there is no /dev/kvm")
    assert finding(machine_survey, "KVM").state is Grade.NOTE
    assert stops(machine_survey) == []
    assert "The sign-off can run here: 'make signoff'." in doctor.render(
        machine_survey, doctor.examine(machine_survey), 100
    )


def test_kvm_absent_though_the_processor_has_it_names_the_module_to_load(fake: FakeMachine) -> None:
    fake.processor("AMD EPYC 7B13", "fpu svm")
    assert "modprobe kvm_amd" in finding(fake.survey(), "KVM").advice
    fake.processor("Intel Xeon", "fpu vmx")
    assert "modprobe kvm_intel" in finding(fake.survey(), "KVM").advice


def test_kvm_without_hardware_virtualisation_is_recognised_and_explained(fake: FakeMachine) -> None:
    fake.processor("AMD EPYC", "fpu hypervisor")
    fake.module("kvm_pvm", None)
    fake.trial = KvmTrial(api_version=12, offers_nested=False)
    machine_survey = as_root(fake.survey())
    choice = choose_host_kind(machine_survey)
    assert choice.kind is HostKind.EMULATED
    assert "kvm_pvm" in choice.why
    assert "neither svm nor vmx" in choice.why
    assert finding(machine_survey, "KVM").state is Grade.OK
    assert finding(machine_survey, "nested KVM").state is Grade.NOTE
    assert stops(machine_survey) == []


@pytest.mark.parametrize(
    ("flags", "module", "on"), [("fpu svm", "kvm_amd", "1"), ("fpu svm", "kvm_amd", "Y"), ("fpu vmx", "kvm_intel", "Y")]
)
def test_working_nested_virtualisation_is_recognised(fake: FakeMachine, flags: str, module: str, on: str) -> None:
    fake.processor("CPU", flags)
    fake.module("kvm_amd", "0")  # a kernel with both built in shows both
    if module != "kvm_amd":
        fake.module(module, on)
    else:
        fake.write("sys/module/kvm_amd/parameters/nested", on)
    fake.trial = WORKS
    machine_survey = fake.survey()
    choice = choose_host_kind(machine_survey)
    assert choice.kind in machine.DRIVEN  # what auto names must be there when it is asked for
    assert f"{module} created a VM" in choice.why
    assert finding(machine_survey, "nested KVM").state is Grade.OK


@pytest.mark.parametrize(("flags", "module"), [("svm", "kvm_amd"), ("vmx", "kvm_intel")])
@pytest.mark.parametrize("off", ["0", "N"])
def test_nested_parameter_off_is_not_chosen_and_the_command_is_given(
    fake: FakeMachine, flags: str, module: str, off: str
) -> None:
    fake.processor("CPU", flags)
    fake.module(module, off)
    fake.trial = KvmTrial(api_version=12, offers_nested=False)
    machine_survey = fake.survey()
    assert choose_host_kind(machine_survey).kind is HostKind.EMULATED
    assert f"modprobe {module} nested=1" in finding(machine_survey, "nested KVM").advice


def test_nested_parameter_on_but_not_offered_by_kvm_is_not_chosen(fake: FakeMachine) -> None:
    fake.processor("CPU", "svm")
    fake.module("kvm_amd", "1")
    fake.trial = KvmTrial(api_version=12, offers_nested=False)
    assert choose_host_kind(fake.survey()).kind is HostKind.EMULATED


def test_kvm_that_may_not_be_opened_is_not_chosen_and_the_group_is_named(fake: FakeMachine) -> None:
    fake.processor("CPU", "svm")
    fake.module("kvm_amd", "1")
    fake.trial = KvmTrial(problem="it cannot be opened: Permission denied", permission=True)
    machine_survey = as_user(fake.survey(), sudo=True)
    assert choose_host_kind(machine_survey).kind is HostKind.EMULATED
    assert "usermod -aG kvm kim" in finding(machine_survey, "KVM").advice


def test_kvm_that_creates_no_vm_is_not_chosen(fake: FakeMachine) -> None:
    fake.processor("CPU", "svm")
    fake.module("kvm_amd", "1")
    fake.trial = KvmTrial(problem="no VM can be created: Device or resource busy")
    assert "no VM can be created" in choose_host_kind(fake.survey()).why


def test_trial_of_something_that_is_not_kvm_says_so_and_does_not_raise(tmp_path: Path) -> None:
    assert machine.try_kvm(tmp_path / "kvm") is None
    (tmp_path / "kvm").write_bytes(b"")
    trial = machine.try_kvm(tmp_path / "kvm")
    assert trial is not None
    assert trial.problem.startswith("no VM can be created")


@pytest.mark.parametrize(
    ("function", "ecx", "offered"),
    [(1, 1 << 5, True), (0x80000001, 1 << 2, True), (1, 1 << 2, False), (0x80000001, 1 << 5, False), (7, ~0, False)],
)
def test_cpuid_offered_to_guests_shows_nested_virtualisation(function: int, ecx: int, offered: bool) -> None:  # noqa: FBT001
    entry = struct.pack("<10I", function, 0, 0, 0, 0, ecx & 0xFFFFFFFF, 0, 0, 0, 0)
    stale = struct.pack("<10I", 1, 0, 0, 0, 0, 1 << 5, 0, 0, 0, 0)  # beyond the count: not an answer
    assert machine._shows_nested(struct.pack("<II", 1, 0) + entry + stale) is offered


def test_low_disk_stops_and_says_how_much_is_needed(fake: FakeMachine) -> None:
    fake.free_bytes = GIB // 2
    machine_survey = as_root(fake.survey())
    assert stops(machine_survey) == ["disk, cache", "disk, checkout"]
    assert "5.0 GiB are needed" in finding(machine_survey, "disk, cache").advice


def test_what_is_cached_already_needs_no_disk_again(fake: FakeMachine) -> None:
    fake.free_bytes = 2 * GIB
    machine_survey = as_root(fake.survey())
    assert stops(machine_survey) == ["disk, cache"]
    assert stops(replace(machine_survey, cache=(machine.CacheKind("kernel", 1, 4 * GIB),))) == []


def test_cache_content_is_counted_by_kind(fake: FakeMachine) -> None:
    for entry, size in (("kernel/aa", 8192), ("kernel/bb", 8192), ("rootfs/cc", 1), ("scratch/kernel-dd", 1)):
        fake.write(f"cache/{entry}/.used", str(size))
    fake.write("cache/locks/kernel-aa", "")
    machine_survey = fake.survey()
    assert [(kind.kind, kind.entries) for kind in machine_survey.cache] == [("kernel", 2), ("rootfs", 1)]
    assert machine_survey.cache[0].size == 16384
    assert "2 kernel" in finding(machine_survey, "cache").fact


def test_little_memory_stops(fake: FakeMachine) -> None:
    fake.write("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n")
    assert stops(as_root(fake.survey())) == ["memory"]


def test_memory_limit_of_a_container_counts(fake: FakeMachine) -> None:
    fake.write("sys/fs/cgroup/memory.max", str(4 * GIB))
    fake.write("sys/fs/cgroup/memory.current", str(3 * GIB))
    machine_survey = as_root(fake.survey())
    assert machine_survey.memory == machine.Memory(4 * GIB, 1 * GIB)
    assert stops(machine_survey) == ["memory"]


def test_missing_packages_are_set_up_by_make_for_root_and_sudo_only(fake: FakeMachine) -> None:
    fake.installed.remove("erofs-utils")
    machine_survey = fake.survey()
    assert machine_survey.missing_packages == ("erofs-utils",)
    for able in (as_root(machine_survey), as_user(machine_survey, sudo=True)):
        assert finding(able, "packages").state is Grade.SETUP
        assert stops(able) == []
    unable = as_user(machine_survey, sudo=False)
    assert stops(unable) == ["packages"]
    assert "apt-get install --no-install-recommends erofs-utils" in finding(unable, "packages").advice


def test_removed_package_that_left_its_configuration_is_missing(fake: FakeMachine) -> None:
    fake.installed.remove("ccache")
    assert fake.survey().missing_packages == ("ccache",)


def test_qemu_is_the_one_of_the_newest_root_file_system(fake: FakeMachine) -> None:
    assert "not there yet" in finding(fake.survey(), "QEMU").fact
    for age, version in ((9, "1:9.0"), (1, "1:10.0.2+ds-2")):
        fake.write(f"cache/rootfs/{age}/packages.list", f"qemu-system 1:1\nqemu-system-x86 {version}\nzlib1g 1:2\n")
        os.utime(fake.root / f"cache/rootfs/{age}/packages.list", (100 - age, 100 - age))
    assert "1:10.0.2+ds-2" in finding(fake.survey(), "QEMU").fact


def test_other_distribution_with_missing_packages_stops(fake: FakeMachine) -> None:
    fake.write("etc/os-release", "PRETTY_NAME=Fedora\nID=fedora\nVERSION_ID=44\n")
    fake.answers.pop("dpkg-query")
    machine_survey = as_root(fake.survey())
    assert machine_survey.missing_packages is None
    assert stops(machine_survey) == ["packages"]


def test_other_architecture_stops(fake: FakeMachine) -> None:
    machine_survey = as_root(fake.survey())
    assert stops(replace(machine_survey, system=replace(machine_survey.system, architecture="aarch64"))) == ["system"]


def test_user_without_subordinate_ids_or_namespaces_gets_the_command(fake: FakeMachine) -> None:
    machine_survey = as_user(fake.survey(), sudo=True)
    without_ids = replace(machine_survey, user=replace(machine_survey.user, subordinate_ids=False))
    assert "usermod --add-subuids" in finding(without_ids, "user").advice
    without_namespaces = replace(machine_survey, user=replace(machine_survey.user, namespaces=False))
    assert "sysctl" in finding(without_namespaces, "user").advice


def test_report_never_folds_a_command(fake: FakeMachine) -> None:
    fake.installed.clear()
    machine_survey = as_user(fake.survey(), sudo=False)
    lines = doctor.render(machine_survey, doctor.examine(machine_survey), 60).splitlines()
    assert any(f"--no-install-recommends {' '.join(PACKAGES)}" in line for line in lines)
    assert "packages" in lines[-1]


def test_doctor_runs_on_the_standard_library_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-m", "host_setup.tools.doctor"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 1)
    assert "Host kind 'auto' means" in done.stdout


# --- faults that this machine has for as long as a test: doctor runs in a process of its own --------------------------


class Faulty:
    """Runs doctor on this machine with a fault."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(self.cache)}

    def doctor(self, prelude: str = "true", *wrap: str, python: str = sys.executable) -> str:
        """What it says; lines are not folded.

        :param prelude: a shell command before it. :param wrap: a command that runs all of it.
        """
        script = f"{prelude} && exec {python} -S -B -m host_setup.tools.doctor"
        done = subprocess.run(
            [*wrap, "sh", "-c", script],
            cwd=PROJECT,
            env={**self.environment, "COLUMNS": "1000"},
            capture_output=True,
            text=True,
            check=False,
        )
        if "unshare" in done.stderr or "setpriv" in done.stderr or "mount:" in done.stderr:
            pytest.skip(f"this machine does not let us: {done.stderr.strip()}")
        assert done.stderr == ""
        assert ("cannot run here yet" in done.stdout) is (done.returncode == 1)
        return done.stdout

    def mounted(self, options: str) -> str:
        """With another file system in place of the cache."""
        self.cache.mkdir()
        mount = f"mount -t tmpfs -o {options} none {self.cache}"
        return self.doctor(mount, "unshare", "--mount", "--map-root-user")


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path)


def line_about(message: str, subject: str) -> str:
    """State, finding and advice of one line of the table."""
    lines = message.splitlines()
    number = next(number for number, line in enumerate(lines) if line[10:26].strip() == subject)
    return " ".join(" ".join(lines[number : number + 2]).split())


@pytest.mark.parametrize("name", ["a b", "a:b", "a$b", "a#b", "a,b", "a'b", "a(b", "a;b", "a%b", "a\\b", "a\tb"])
def test_cache_path_that_make_or_qemu_refuses_stops(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, tmp_path / "link"):
        path.mkdir() if path.name == name else path.symlink_to(tmp_path / name)
        faulty = Faulty(path)
        assert line_about(faulty.doctor(), "disk, cache").startswith("STOP disk, cache")
        assert "make and QEMU cannot handle such a path" in faulty.doctor()


def test_cache_path_of_every_day_is_taken(tmp_path: Path) -> None:
    for name in ("a.b-c_d+e=f@g~h", "Müller"):
        assert not make_refuses(tmp_path / name)


def test_cache_below_a_file_or_a_dead_link_stops(faulty: Faulty) -> None:
    faulty.cache.touch()
    assert (
        f"STOP disk, cache nothing can be written to {faulty.cache}/sealproof: {faulty.cache} is no folder"
        in line_about(faulty.doctor(), "disk, cache")
    )
    faulty.cache.unlink()
    faulty.cache.symlink_to("/no/such/place")
    assert f"{faulty.cache} is a link to nothing" in line_about(faulty.doctor(), "disk, cache")
    faulty.cache.unlink()
    faulty.cache.symlink_to(faulty.cache.name)
    assert "STOP disk, cache nothing can be written" in line_about(faulty.doctor(), "disk, cache")


@pytest.mark.parametrize(
    ("options", "state", "words"),
    [
        ("ro", "STOP", "is read-only"),
        ("noexec,size=9g", "STOP", "is mounted noexec"),
        ("size=1g", "STOP", "1.0 GiB free"),
        ("size=9g,nr_inodes=1000", "STOP", "more files fit on the file system"),
        ("size=9g", "note", "which is in memory"),
    ],
)
def test_cache_on_a_file_system_that_does_not_do_is_told(faulty: Faulty, options: str, state: str, words: str) -> None:
    output = line_about(faulty.mounted(options), "disk, cache")
    assert output.startswith(f"{state} disk, cache")
    assert words in output


@pytest.mark.parametrize(
    ("kind", "state"),
    [("nfs4", Grade.NOTE), ("cifs", Grade.NOTE), ("fuse.sshfs", Grade.NOTE), ("vfat", Grade.STOP), ("ext4", Grade.OK)],
)
def test_kind_of_the_cache_s_file_system_counts(fake: FakeMachine, kind: str, state: Grade) -> None:
    fake.write(
        "proc/self/mountinfo",
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {fake.root} rw shared:1 - {kind} server:/home rw\n",
    )
    machine_survey = fake.survey()
    assert machine_survey.cache_disk.kind == kind
    assert finding(machine_survey, "disk, cache").state is state


def test_another_user_s_cache_stops(tmp_path: Path) -> None:
    faulty = Faulty(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (faulty.cache / "sealproof" / "kernel").mkdir(parents=True)
    as_nobody = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--")
    (faulty.cache / "sealproof").chmod(0o777)
    output = faulty.doctor("true", *as_nobody, python="/usr/bin/python3")
    assert f"uid 54321 may not write to {faulty.cache}/sealproof/kernel" in line_about(output, "disk, cache")


def test_user_without_a_name_or_a_home_is_told_so(faulty: Faulty) -> None:
    as_nobody = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--")
    del faulty.environment["XDG_CACHE_HOME"]
    output = faulty.doctor("unset HOME LOGNAME USER USERNAME LNAME", *as_nobody, python="/usr/bin/python3")
    assert "uid 54321, which has no name in /etc/passwd: newuidmap refuses this" in line_about(output, "user")
    assert "uid 54321 has no home folder: HOME is not set" in line_about(output, "disk, cache")
    output = faulty.doctor("export HOME=/", *as_nobody, python="/usr/bin/python3")
    assert "uid 54321 may not write to /" in line_about(output, "disk, cache")


def test_machine_without_its_loopback_stops(faulty: Faulty) -> None:
    output = faulty.doctor("true", "unshare", "--net", "--map-root-user")
    assert line_about(output, "loopback").startswith("STOP loopback no connection to 127.0.0.1: Network is unreachable")
    assert line_about(faulty.doctor(), "loopback").startswith("ok loopback")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("-v 4000000", "RLIMIT_AS is 4096000000"),
        ("-f 1000", "RLIMIT_FSIZE is"),
        ("-n 100", "RLIMIT_NOFILE is 100"),
        ("-t 60", "RLIMIT_CPU is 60"),
    ],
)
def test_process_limits_that_are_too_low_stop(faulty: Faulty, option: str, words: str) -> None:
    output = line_about(faulty.doctor(f"ulimit -S {option}"), "process limits")
    assert output.startswith(f"STOP process limits {words}")
    step = output.partition("in the shell, before make: ")[2]
    assert step.startswith(f"ulimit {option[:2]} ")
    assert line_about(faulty.doctor(f"ulimit -S {option}; {step}"), "process limits").startswith("ok")


def test_temporary_files_that_cannot_be_kept_stop(fake: FakeMachine, faulty: Faulty) -> None:
    folder = faulty.cache
    folder.mkdir()
    faulty.environment |= {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(fake.root / "other")}
    output = faulty.doctor(f"mount -t tmpfs -o noexec none {folder}", "unshare", "--mount", "--map-root-user")
    assert line_about(output, "disk, temporary").startswith(f"STOP disk, temporary {folder} is mounted noexec")


def test_a_tmpdir_that_is_no_folder_stops(faulty: Faulty) -> None:
    faulty.environment["TMPDIR"] = f"{faulty.cache}/nowhere"
    output = line_about(faulty.doctor(), "disk, temporary")
    assert output.startswith(f"STOP disk, temporary nothing can be written to {faulty.cache}/nowhere: TMPDIR names it")


def test_a_small_disk_for_temporary_files_stops_though_the_image_is_made(faulty: Faulty, tmp_path: Path) -> None:
    folder = faulty.cache / "sealproof/rootfs/x"
    folder.mkdir(parents=True)
    (folder / ".used").write_text("1")
    small = tmp_path / "small"
    small.mkdir()
    faulty.environment["TMPDIR"] = str(small)
    output = faulty.doctor(f"mount -t tmpfs -o size=1m none {small}", "unshare", "--mount", "--map-root-user")
    assert line_about(output, "disk, temporary").startswith(
        f"STOP disk, temporary 0.0 GiB free for {small}, a run takes 64 MiB"
    )


def test_reports_that_cannot_be_kept_stop_and_a_latest_that_is_no_link_is_told(fake: FakeMachine) -> None:
    reports = fake.root / "checkout" / "reports"
    reports.parent.mkdir()
    assert finding(fake.survey(), "reports").state is Grade.OK
    reports.touch()
    assert finding(fake.survey(), "reports").state is Grade.STOP
    reports.unlink()
    (reports / "latest").mkdir(parents=True)
    assert finding(fake.survey(), "reports").state is Grade.NOTE
    assert "latest is a folder" in finding(fake.survey(), "reports").fact
    (reports / "latest").rmdir()
    (reports / "latest").touch()
    assert "latest is a file" in finding(fake.survey(), "reports").fact
    (reports / "latest").unlink()
    (reports / "latest").symlink_to("run")
    assert finding(fake.survey(), "reports").state is Grade.OK


def test_checkout_below_a_colon_stops(tmp_path: Path, fake: FakeMachine) -> None:
    machine_survey = fake.survey()
    assert finding(machine_survey, "disk, checkout").state is Grade.OK
    below = replace(machine_survey.checkout_disk, path=tmp_path / "a:b")
    assert finding(replace(machine_survey, checkout_disk=below), "disk, checkout").state is Grade.STOP


def test_quota_of_less_than_two_cores_is_told(fake: FakeMachine) -> None:
    fake.write("sys/fs/cgroup/cpu.max", "50000 100000")
    machine_survey = fake.survey()
    assert finding(machine_survey, "processor").state is Grade.NOTE
    assert "leaves the time of 0.5" in finding(machine_survey, "processor").fact


@pytest.mark.parametrize("version", [1, 2])
def test_memory_limit_of_a_group_above_counts_and_is_named(fake: FakeMachine, version: int) -> None:
    kind, options, groups = (
        ("cgroup", "rw,memory", "4:memory:/lab/run") if version == 1 else ("cgroup2", "rw", "0::/lab/run")
    )
    fake.write("proc/self/mountinfo", f"35 31 0:32 / /sys/fs/cgroup/m rw - {kind} none {options}\n")
    fake.write("proc/self/cgroup", f"{groups}\n")
    fake.write(f"sys/fs/cgroup/m/lab/memory.{'limit_in_bytes' if version == 1 else 'max'}", str(2 * GIB))
    machine_survey = as_root(fake.survey())
    assert machine_survey.memory == machine.Memory(2 * GIB, 2 * GIB)
    assert stops(machine_survey) == ["memory"]
    assert "sys/fs/cgroup/m/lab" in finding(machine_survey, "memory").fact


@pytest.mark.parametrize(
    ("user", "group", "step"),
    [
        ("root", "kvm", "--device /dev/kvm"),
        ("kim", "", "setfacl --modify user:"),
        ("kim", "lab", "usermod -aG lab kim"),
    ],
)
def test_kvm_that_may_not_be_opened_gets_a_step_that_helps(fake: FakeMachine, user: str, group: str, step: str) -> None:
    fake.trial = KvmTrial(problem="it cannot be opened: no", permission=True, group=group)
    machine_survey = fake.survey()
    machine_survey = as_root(machine_survey) if user == "root" else as_user(machine_survey, sudo=True)
    assert step in finding(machine_survey, "KVM").advice


def test_group_that_may_use_a_device_is_found(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0o600)
    assert machine._group_that_may(device) == ""
    device.chmod(0o660)
    assert machine._group_that_may(device) == (device.group() if device.stat().st_gid else "")
    assert machine._group_that_may(tmp_path / "none") == ""


def test_what_bochs_needs_is_named_and_stops_nothing(fake: FakeMachine) -> None:
    expected = [
        line.split()[0] for line in machine.BOCHS_LIST.read_text(encoding="utf-8").splitlines() if line[0] != "#"
    ]
    machine_survey = fake.survey()
    assert machine_survey.missing_for_bochs == tuple(expected)
    about_bochs = finding(machine_survey, "Bochs")
    assert about_bochs.state is Grade.NOTE
    assert all(name in about_bochs.fact and name in about_bochs.advice for name in expected)
    fake.installed += expected[1:]
    assert finding(fake.survey(), "Bochs").fact == "1 packages missing: bochs"
    assert finding(as_root(machine_survey), "Bochs").advice.startswith(
        "nothing: --emulator bochs installs them, or apt-get"
    )
    assert finding(as_user(machine_survey, sudo=False), "Bochs").advice.startswith(
        "for --emulator bochs: apt-get update"
    )
    fake.installed += expected[:1]
    assert finding(fake.survey(), "Bochs").state is Grade.OK


def test_bochs_without_dpkg_is_a_note(fake: FakeMachine) -> None:
    del fake.answers["dpkg-query"]
    assert finding(fake.survey(), "Bochs").state is Grade.NOTE
