# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are not as the stand-in is: what would keep one from coming back is told before anything is written."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess

import pytest

from common.errors import DeadlineError
from common.waiting import Deadline, poll_until
from host_setup.inventory import Boot
from host_setup.remote.control import KEEPER
from host_setup.remote.fitness import LONGEST, obstacles
from tests.unit.test_keeper import GRUB_CFG, GRUBENV, RELEASE, Machine, machine
from tests.unit.test_remote_parts import entry

__all__ = ["machine"]  # a fixture
OURS = "panic=10 loglevel=7"
LIVE = "overlay / overlay rw,relatime,lowerdir=/run/live/ro,upperdir=/run/live/rw,workdir=/run/live/work 0 0\n"
EFI = "sys/firmware/efi/efivars"
LOADER = f"{EFI}/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
ONCE = f"{EFI}/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
SECURE = f"{EFI}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
UNCHECKED = f"{EFI}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"


def stub(machine: Machine, name: str, does: str) -> None:
    """Have a command do something else."""
    path = machine.root.parent / "stubs" / name
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\nR={machine.root}\necho "{name} $*" >> {machine.calls}\n{does}\n')
    path.chmod(0o755)


def facts(machine: Machine) -> dict[str, str]:
    output = dict(line.split("=", 1) for line in machine.keeper("facts").stdout.splitlines())
    return {**output, "systemd": "257"}  # which the made-up systemctl does not tell


def against(machine: Machine, how: str) -> str:
    """What a machine says against a way to boot, as doctor hands it on; a run that would begin all the same fails."""
    remote = entry(boot=how)
    message = list(obstacles(remote, facts(machine), OURS))
    machine.lease()
    machine.provision()
    before = machine.files()
    done = machine.keeper("boot", "t1", how, OURS)
    if message:
        assert "\n" not in message[0].problem
        assert message[0].advice
        assert len(message) == 1
    if done.returncode != 0:
        assert machine.files() == before
        assert "systemd-run" not in machine.calls.read_text()
    assert bool(message) == (done.returncode == 2), (message, done.stderr)
    return message[0].problem if message else ""


# --- words of the command line


def kernel_words(line: str) -> list[tuple[str, str]]:
    """Names and values as lib/cmdline.c next_arg() takes them apart."""
    result, at = [], 0
    while at < len(line):
        if line[at] in " \t\n":
            at += 1
            continue
        begin, quoted = at, False
        while at < len(line) and (quoted or line[at] not in " \t\n"):
            quoted ^= line[at] == '"'
            at += 1
        word = line[begin:at]
        whole = word.startswith('"')
        word = word[1:] if whole else word
        name, _, value = word.partition("=")
        if value.startswith('"'):
            value = value[1:].removesuffix('"')
        elif whole:
            value, name = (value.removesuffix('"'), name) if value else ("", name.removesuffix('"'))
        result.append((name, value))
    return result


def grub_hands_on(words: list[str]) -> str:
    """What GRUB's "linux" makes of its arguments: grub_create_loader_cmdline() in its lib/cmdline.c."""
    quoted = []
    for word in words:
        escaped = "".join(f"\\{c}" if c in "\\'\"" else c for c in word)
        quoted.append(f'"{escaped}"' if " " in word else escaped)
    return " ".join(quoted)


ODD = [
    "root=UUID=1 ro memmap=64K$0x18690000 ima_template_fmt=d-ng|n-ng",
    "root=UUID=1 a;b a&b a<b>c {x} #no * ? [a-z] ~ `id` $(id) ${x} \\$y".replace("\\", ""),
    'root=UUID=1 dyndbg="file drivers/usb/*  +p; func x +p" ro',
    '"dyndbg=file a.c +p" root=UUID=1',
    'root=UUID=1 systemd.setenv="A=b"',
    "root=UUID=1   two\tblanks  ",
    "BOOT_IMAGE=/vmlinuz root=UUID=1 say=it\\'s path=a\\\\b",
    "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=UUID=1 initrd=\\x.img quiet",
]


@pytest.mark.parametrize(
    "words", [" ".join(word for word in ODD if ("BOOT_IMAGE" in word) == grub) for grub in (True, False)]
)
@pytest.mark.parametrize("awk", ["mawk", "gawk", "busybox", "original-awk"])
def test_odd_words_reach_the_kernel_by_grub_as_they_are(machine: Machine, words: str, awk: str) -> None:
    result = shutil.which(awk)
    if result is None:
        pytest.skip(f"there is no {awk} here")
    stub(machine, "awk", f'exec {result} {"awk" if awk == "busybox" else ""} "$@"')
    machine.write("proc/cmdline", words + "\n")
    assert against(machine, "grub") == ""
    custom = machine.read("boot/grub/custom.cfg")
    (line,) = [line for line in custom.splitlines() if line.startswith("    linux ")]
    _, image, *quoted = shlex.split(line)
    assert image == "/boot/sealproof/kernel"
    dropped = ("BOOT_IMAGE", "initrd", "quiet")
    expected = [word for word in kernel_words(f"{words} {OURS}") if word[0] not in dropped]
    assert kernel_words(grub_hands_on(quoted)) == expected
    check = shutil.which("grub-script-check")
    if check:
        subprocess.run([check, str(machine.root / "boot/grub/custom.cfg")], check=True, timeout=30)


@pytest.mark.parametrize("word", ["say=it's", "path=a\\b"])
def test_word_that_grub_cannot_hand_on_is_told(machine: Machine, word: str) -> None:
    machine.write("proc/cmdline", f"root=UUID=1 {word} ro\n")
    assert against(machine, "grub") == f"GRUB cannot hand on a word of its command line as it is: {word}"


@pytest.mark.parametrize("words", [" ".join(words for words in ODD if "BOOT_IMAGE" not in words)])
@pytest.mark.parametrize("how", ["kexec", "systemd-boot"])
def test_odd_words_are_left_as_they_are_where_nobody_reads_them_but_the_kernel(
    machine: Machine, words: str, how: str
) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    machine.write("proc/cmdline", words + "\n")
    assert against(machine, how) == ""
    if how == "kexec":
        last = machine.calls.read_text().split(f"initrd.img-{RELEASE} ", 1)[1].splitlines()[0]
    else:
        conf = machine.read("efi/loader/entries/sealproof.conf")
        last = next(line for line in conf.splitlines() if line.startswith("options ")).removeprefix("options ")
    assert kernel_words(last) == kernel_words(f"{words} {OURS}")


@pytest.mark.parametrize("how", ["kexec", "grub", "systemd-boot"])
def test_what_follows_two_dashes_is_for_init_and_stays_behind_our_words(machine: Machine, how: str) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    machine.write("proc/cmdline", "root=UUID=1 ro -- single x\n")
    assert against(machine, how) == ""
    text = machine.calls.read_text() + "".join(machine.files().values())
    assert f"root=UUID=1 ro {OURS} -- single x\n" in text


def test_command_line_that_is_too_long_is_told(machine: Machine) -> None:
    machine.write("proc/cmdline", f"root=UUID=1 x={'y' * 1950}\n")
    assert against(machine, "kexec") == "its command line leaves no room for the words that a run adds"
    assert (
        int(
            next(line for line in machine.environment["SEALPROOF_TEXT"].splitlines() if "LONGEST=" in line)
            .split()[0]
            .partition("=")[2]
        )
        == LONGEST
    )


# --- GRUB


@pytest.mark.parametrize(
    ("file_system", "layers", "named"),
    [
        ("ext2", "lvm", "lvm"),
        ("xfs", "diskfilter mdraid1x", "diskfilter mdraid1x"),
        ("ext2", "mdraid09", "mdraid09"),
        ("ext2", "cryptodisk luks2", "cryptodisk luks2"),
        ("zfs", "", "zfs"),
        ("btrfs", "", "btrfs"),
        ("f2fs", "", "f2fs"),
        ("jfs", "", "jfs"),
        ("ext2", "", ""),
        ("xfs", "", ""),
        ("fat", "", ""),
    ],
)
def test_boot_where_grub_cannot_take_back_its_entry_is_refused(
    machine: Machine, file_system: str, layers: str, named: str
) -> None:
    stub(
        machine,
        "grub-probe",
        f'case "$*" in *=fs\\ *) echo {file_system} ;; *abstraction*) printf "%s\\n" {layers} ;; *) echo 1234 ;; esac',
    )
    output = against(machine, "grub")
    assert (f"grub is on {named}, where GRUB cannot take back an entry" in output) == bool(named)
    assert (output == "") == (not named)


def test_boot_that_grub_does_not_know_is_refused(machine: Machine) -> None:
    stub(machine, "grub-probe", "echo grub-probe: error: failed to get canonical path >&2; exit 1")
    assert "does not tell what" in against(machine, "grub")


def test_environment_of_grub_that_is_a_link_is_looked_at_where_it_is(machine: Machine) -> None:
    """As on Fedora with EFI."""
    env = machine.root / "boot/grub/grubenv"
    machine.write("boot/efi/EFI/fedora/grubenv", env.read_text())
    env.unlink()
    env.symlink_to("../efi/EFI/fedora/grubenv")
    stub(machine, "grub-probe", 'case "$*" in *=fs\\ */EFI/fedora/grubenv) echo zfs ;; *=fs*) echo ext2 ;; esac')
    assert "is on zfs" in against(machine, "grub")


def test_file_that_is_no_environment_block_is_refused(machine: Machine) -> None:
    machine.write("boot/grub/grubenv", "saved_entry=0\n")
    assert "is no environment block" in against(machine, "grub")


def test_grub_that_asks_for_a_password_does_not_for_our_entry(machine: Machine) -> None:
    """Superusers: an entry needs one of them, unless it is unrestricted (GRUB's manual, 18.1)."""
    grub_cfg = machine.read("boot/grub/grub.cfg")
    machine.write("boot/grub/grub.cfg", f'set superusers="boss"\npassword boss secret\n{grub_cfg}')
    assert against(machine, "grub") == ""
    assert "menuentry 'sealproof, once' --unrestricted --id sealproof {\n" in machine.read("boot/grub/custom.cfg")


def test_own_entries_without_an_end_of_the_last_line_stay_apart_from_ours(machine: Machine) -> None:
    machine.write("boot/grub/custom.cfg", "menuentry 'memtest' {\n}")
    before = machine.files()
    assert against(machine, "grub") == ""
    assert "\nmenuentry 'sealproof" in machine.read("boot/grub/custom.cfg")
    machine.keeper("restore", "t1")
    assert machine.files() == before


def test_entry_that_grub_reboot_did_not_keep_is_noticed(machine: Machine) -> None:
    machine.lease()
    machine.provision()
    stub(machine, "grub-reboot", "exit 0")
    done = machine.keeper("boot", "t1", "grub", "")
    assert (done.returncode, "keeps no entry" in done.stderr) == (2, True)
    assert "systemd-run" not in machine.calls.read_text()


def test_entry_that_something_else_took_back_is_set_again_before_the_machine_goes_down(machine: Machine) -> None:
    """As grub-set-default does, which a package's hook may call: it drops next_entry."""
    machine.lease()
    machine.provision()
    assert machine.keeper("boot", "t1", "grub", "").returncode == 0
    assert f"/bin/sh {machine.root}/var/lib/sealproof/keeper go grub\n" in machine.calls.read_text()
    machine.write("boot/grub/grubenv", "# GRUB Environment Block\nsaved_entry=0\n" + "#" * 980)
    assert machine.keeper("go", "grub").returncode == 0
    assert "next_entry=sealproof" in machine.read("boot/grub/grubenv")
    assert machine.calls.read_text().rstrip().endswith("systemctl reboot")


@pytest.mark.parametrize("goes", [True, False])
def test_watch_sets_the_entry_again_only_while_the_machine_goes_down(machine: Machine, *, goes: bool) -> None:
    """A service that ends may take it back, too."""
    machine.lease()
    machine.provision()
    taken_back = "# GRUB Environment Block\nsaved_entry=0\n" + "#" * 980
    watch = subprocess.Popen(["sh", "-c", KEEPER.read_text(), "keeper", "watch"], env=machine.environment)
    try:
        poll_until(lambda: machine.read("var/lib/sealproof/beat"), Deadline(20), "the watch")
        machine.keeper("boot", "t1", "grub", "")
        machine.write("boot/grub/grubenv", taken_back)
        if not goes:
            (machine.root / "var/lib/sealproof/going").unlink()  # as a watch does that begins with another boot
        with contextlib.suppress(DeadlineError):
            poll_until(lambda: "next_entry" in machine.read("boot/grub/grubenv"), Deadline(10 if goes else 3), "it")
        assert ("next_entry=sealproof" in machine.read("boot/grub/grubenv")) == goes
    finally:
        watch.kill()
        watch.wait()


def test_watch_of_the_next_boot_leaves_the_entry_alone(machine: Machine) -> None:
    before = machine.files()
    machine.lease(seconds=1)
    machine.provision()
    machine.keeper("boot", "t1", "grub", "")
    machine.write("boot/grub/grubenv", GRUBENV)
    assert machine.keeper("watch").returncode == 0
    assert machine.calls.read_text().count("grub-reboot") == 1
    assert machine.files() == before


# --- Fedora's layout, systemd-boot


@pytest.fixture
def fedora(machine: Machine) -> Machine:
    """A machine with Fedora's files: GRUB 2 by another name, its entries as systemd-boot would have them."""
    shutil.move(machine.root / "boot/grub", machine.root / "boot/grub2")
    machine.write("boot/grub2/grub.cfg", machine.read("boot/grub2/grub.cfg") + "insmod blscfg\nblscfg\n")
    (machine.root / f"boot/initrd.img-{RELEASE}").rename(machine.root / f"boot/initramfs-{RELEASE}.img")
    machine.write(f"boot/loader/entries/0123-{RELEASE}.conf", "title Fedora\nlinux /vmlinuz\n")
    machine.write("boot/efi/EFI/fedora/grub.cfg", "configfile $prefix/grub.cfg\n")
    stubs = machine.root.parent / "stubs"
    for name in ("probe", "mkrelpath", "reboot"):
        text = (stubs / f"grub-{name}").read_text().replace("boot/grub/", "boot/grub2/")
        (stubs / f"grub-{name}").unlink()
        (stubs / f"grub2-{name}").write_text(text)
        (stubs / f"grub2-{name}").chmod(0o755)
    stub(machine, "bootctl", 'case "$*" in is-installed) echo no; exit 1 ;; *esp*) exit 1 ;; esac')
    return machine


def test_fedora_boots_by_grub(fedora: Machine) -> None:
    before = fedora.files()
    assert against(fedora, "grub") == ""
    assert f"initrd /boot/initramfs-{RELEASE}.img" in fedora.read("boot/grub2/custom.cfg")
    fedora.keeper("restore", "t1")
    assert fedora.files() == before


def test_entries_of_fedora_s_grub_are_not_taken_for_systemd_boot_s(fedora: Machine) -> None:
    assert against(fedora, "systemd-boot") == "systemd-boot is not installed"
    assert facts(fedora)["systemd_boot"] == "no"


NO_SEEKING = """
for word; do
    case $word in */efivars/*) echo "tail: $word: cannot seek to relative offset 4: Illegal seek" >&2; exit 1 ;; esac
done
exec /usr/bin/tail "$@"
"""


def efi(machine: Machine, path: str, value: bytes) -> None:
    """Give it an EFI variable; as in efivarfs, nobody can seek in its file."""
    machine.write(path, "")
    (machine.root / path).write_bytes(b"\x06\0\0\0" + value)
    stub(machine, "tail", NO_SEEKING)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ("systemd-boot 257.9-1", ""),
        ("GRUB 2.12", "GRUB 2.12 booted it, not systemd-boot"),
        ("", "another boot loader booted it, not systemd-boot"),
    ],
)
def test_systemd_boot_that_did_not_boot_the_machine_will_not_boot_it(
    machine: Machine, loader: str, message: str
) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    (machine.root / EFI).mkdir(parents=True)
    if loader:
        efi(machine, LOADER, loader.encode("utf-16-le") + b"\0\0")
    assert against(machine, "systemd-boot") == message


def test_grub_beside_the_systemd_boot_that_boots_the_machine_is_refused(machine: Machine) -> None:
    efi(machine, LOADER, "systemd-boot 257".encode("utf-16-le"))
    assert against(machine, "grub") == "systemd-boot booted it, not GRUB"


@pytest.mark.parametrize(("entry", "cleared"), [("sealproof.conf", True), ("windows.conf", False), ("", False)])
def test_one_time_entry_that_was_not_taken_goes_again_if_it_is_ours(
    machine: Machine,
    entry: str,
    cleared: bool,  # noqa: FBT001
) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    efi(machine, LOADER, "systemd-boot 257".encode("utf-16-le"))
    assert against(machine, "systemd-boot") == ""
    if entry:
        efi(machine, ONCE, entry.encode("utf-16-le") + b"\0\0")
    machine.calls.write_text("")
    assert machine.keeper("restore", "t1").returncode == 0
    assert ("bootctl set-oneshot \n" in machine.calls.read_text()) is cleared


def test_one_time_entry_of_systemd_boot_is_set_again_before_the_machine_goes_down(machine: Machine) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    assert against(machine, "systemd-boot") == ""
    machine.calls.write_text("")
    assert machine.keeper("go", "systemd-boot").returncode == 0
    assert machine.calls.read_text() == "bootctl set-oneshot sealproof.conf\nsystemctl reboot\n"


# --- Secure Boot, lockdown, kexec


@pytest.mark.parametrize("how", list(Boot))
@pytest.mark.parametrize(
    ("secure", "lockdown"), [(True, "[integrity]"), (True, "[none]"), (False, "[confidentiality]")]
)
def test_machine_that_starts_no_kernel_of_ours_is_told(
    machine: Machine, how: Boot, *, secure: bool, lockdown: str
) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    machine.write("sys/kernel/security/lockdown", f"none {lockdown} x\n")
    if secure:
        efi(machine, SECURE, b"\1")
    if how is Boot.SYSTEMD_BOOT:
        efi(machine, LOADER, "systemd-boot 257".encode("utf-16-le"))
    lines = [finding.problem for finding in obstacles(entry(boot=how), facts(machine), OURS)]
    if secure and how is not Boot.KEXEC:
        assert lines == ["Secure Boot is on, and does not start our kernel"]
    elif lockdown != "[none]":
        assert lines == ["its kernel is locked down and does not load our kernel"]
    else:
        assert lines == []


def test_secure_boot_that_is_off_or_that_shim_does_not_check_is_no_obstacle(machine: Machine) -> None:
    efi(machine, SECURE, b"\0")
    assert facts(machine)["secure_boot"] == "no"
    efi(machine, SECURE, b"\1")
    assert facts(machine)["secure_boot"] == "yes"
    efi(machine, UNCHECKED, b"\1")
    assert facts(machine)["secure_boot"] == "no"


def test_kexec_that_is_switched_off_is_told(machine: Machine) -> None:
    machine.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    assert against(machine, "kexec") == "kexec is switched off until it boots again"


# --- the initramfs


@pytest.mark.parametrize(
    ("root", "needed"),
    [
        ("root=/dev/mapper/vg-root", True),
        ("root=UUID=1234", True),
        ("root=LABEL=top", True),
        ("root=ZFS=rpool/root", True),
        ("root=/dev/md0", True),
        ("rd.luks.uuid=1234", True),
        ("root=/dev/sda1 root=UUID=1", True),
        ("root=PARTUUID=1234-02", False),
        ("root=/dev/nvme0n1p2", False),
        ("root=/dev/vda1", False),
        ("root=8:1", False),
    ],
)
def test_root_that_the_kernel_does_not_find_by_itself_needs_an_initramfs(
    machine: Machine, root: str, *, needed: bool
) -> None:
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    machine.write("proc/cmdline", f"ro {root}\n")
    (machine.root / f"boot/initrd.img-{RELEASE}").unlink()
    answers = facts(machine)
    for how in Boot:
        assert answers[f"against_{how}"].startswith(f"no initramfs of Linux {RELEASE} is found") == needed
    assert bool(against(machine, "kexec")) == needed


@pytest.mark.parametrize(
    "path",
    [
        f"boot/initramfs-{RELEASE}.img",
        f"boot/initrd-{RELEASE}",
        f"boot/initrd-{RELEASE}.img",
        f"boot/initramfs-genkernel-{os.uname().machine}-{RELEASE}",
        f"boot/ostree/fedora-4f1c/initramfs-{RELEASE}.img",
        f"efi/0123/{RELEASE}/initrd",
        "boot/initramfs-linux-lts.img",
    ],
)
def test_initramfs_is_found_where_distributions_have_it(machine: Machine, path: str) -> None:
    (machine.root / f"boot/initrd.img-{RELEASE}").unlink()
    machine.write(f"usr/lib/modules/{RELEASE}/pkgbase", "linux-lts\n")
    machine.write(path, "initramfs")
    assert facts(machine)["initramfs"] == f"{machine.root}/{path}"
    assert against(machine, "kexec") == ""


def test_kernel_under_test_boots_again_with_the_initramfs_of_the_machine_s_own(machine: Machine) -> None:
    assert against(machine, "grub") == ""
    stub(machine, "uname", 'case "$1" in -r) echo 6.12.0-sealproof ;; *) exec /usr/bin/uname "$@" ;; esac')
    machine.write("proc/cmdline", "BOOT_IMAGE=x root=UUID=1 panic=10 loglevel=7\n")
    assert machine.keeper("boot", "t1", "grub", OURS).returncode == 0
    custom = machine.read("boot/grub/custom.cfg")
    assert f"initrd /boot/initrd.img-{RELEASE}\n" in custom
    assert custom.count("panic=10") == 1


# --- what outlives a boot, and the clock


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ("/dev/sda1 / ext4 rw 0 0\ntmpfs /var tmpfs rw 0 0\n", "/var/lib is in memory"),
        ("rootfs / rootfs rw 0 0\ntmpfs / tmpfs rw 0 0\n", "/var/lib is in memory"),
        ("/dev/sda1 / ext4 rw 0 0\ntmpfs /etc tmpfs rw 0 0\n", "/etc/systemd/system is in memory"),
        (f"{LIVE}tmpfs /run tmpfs rw 0 0\n", "/var/lib is in memory"),
        (f"{LIVE}/dev/sda1 /run/live ext4 rw 0 0\n", ""),
        (LIVE, "/var/lib is in memory"),  # what it writes to was mounted by an initramfs that is gone
        (f"/dev/sda1 / ext4 rw 0 0\n{LIVE.replace(' / ', ' /etc ').replace('/run/live', '/var/live')}", ""),
        ("overlay / overlay ro,lowerdir=/a:/b 0 0\n", ""),  # of layers that nobody writes to
        ("tmpfs / tmpfs rw 0 0\n/dev/sda1 /var ext4 rw 0 0\n/dev/sda2 /etc ext4 rw 0 0\n", ""),
        ("/dev/sda1 / ext4 rw 0 0\ntmpfs /var/lib/docker tmpfs rw 0 0\ntmpfs /var/li tmpfs rw 0 0\n", ""),
    ],
)
def test_machine_that_forgets_what_brings_it_back_is_refused(machine: Machine, mounts: str, message: str) -> None:
    machine.write("proc/mounts", mounts)
    refusal = against(machine, "kexec")
    assert refusal.startswith(message)
    assert bool(refusal) == bool(message)


TIMEOUT = """
if [ "${{recordfail}}" = 1 ] ; then
  set timeout=-1
else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=menu
    set timeout={0}
  # Fallback normal timeout code in case the timeout_style feature is
  # unavailable.
  else
    set timeout={0}
  fi
fi
"""


@pytest.mark.parametrize(("seconds", "waits"), [("-1", True), ("-10", False), ("5", False), ("0", False)])
@pytest.mark.parametrize("how", ["grub", "kexec"])
def test_grub_that_waits_for_somebody_is_told_whichever_way_it_boots(
    machine: Machine, how: str, seconds: str, *, waits: bool
) -> None:
    machine.write("boot/grub/grub.cfg", TIMEOUT.format(seconds) + GRUB_CFG)
    assert ("waits for somebody at its menu" in against(machine, how)) == waits


@pytest.mark.parametrize(("timeout", "waits"), [("menu-force", True), ("menu-hidden", False), ("5", False)])
def test_systemd_boot_that_waits_for_somebody_is_told(machine: Machine, timeout: str, *, waits: bool) -> None:
    machine.write("boot/grub/grub.cfg", TIMEOUT.format("-1") + GRUB_CFG)  # of the one that does not boot it
    machine.write("efi/loader/entries/debian.conf", "title Debian\n")
    machine.write("efi/loader/loader.conf", f"#timeout menu-force\ndefault debian.conf\ntimeout {timeout}\n")
    efi(machine, LOADER, "systemd-boot 257".encode("utf-16-le"))
    assert ("waits for somebody at its menu" in against(machine, "systemd-boot")) == waits


@pytest.mark.parametrize(
    ("root", "on", "lacks"),
    [
        ("ext4", "part disk", ""),
        ("ext4", "disk", ""),
        ("ext4", "", ""),  # no device: overlay, network
        ("xfs", "part disk", "xfs"),
        ("ext4", "lvm part disk", "lvm"),
        ("btrfs", "crypt part disk", "btrfs, crypt"),
        ("ext4", "lvm raid1 part disk part disk", "lvm, raid1"),
        ("ext4", "mpath disk disk", "mpath"),
    ],
)
def test_root_of_which_a_lean_kernel_knows_nothing_is_told(machine: Machine, root: str, on: str, lacks: str) -> None:
    stub(machine, "findmnt", "echo /dev/vda1")
    stub(machine, "lsblk", f"[ -n '{on}' ] && printf '%s\\n' {on}")
    machine.write("proc/mounts", f"/dev/vda1 / {root} rw 0 0\n")
    lines = [finding.problem for finding in obstacles(entry(config="lean"), facts(machine), OURS)]
    assert lines == ([f"its root file system is on {lacks}, of which a lean kernel knows nothing"] if lacks else [])
    assert not list(obstacles(entry(config="own"), facts(machine), OURS))


@pytest.mark.parametrize(
    ("state", "identity", "nowayout", "kexec_timeout", "is_reported"),
    [
        ("active", "iTCO_wdt", 1, "0", True),
        ("active", "i6300ESB timer", 0, "1min", True),  # KExecWatchdogSec= in systemd's system.conf
        ("active", "iTCO_wdt", 0, "0", False),  # systemd stops it
        ("active", "iTCO_wdt", 0, "infinity", False),
        ("active", "iTCO_wdt", 0, "", False),  # a systemd that knows nothing of it
        ("inactive", "iTCO_wdt", 1, "1min", False),
        ("active", "Software Watchdog", 1, "1min", False),
    ],
)
def test_watchdog_that_runs_on_in_a_kernel_without_its_driver_is_told(
    machine: Machine, state: str, identity: str, nowayout: int, kexec_timeout: str, *, is_reported: bool
) -> None:
    stub(machine, "systemctl", f'[ "$2" != --property=KExecWatchdogUSec ] || echo "{kexec_timeout}"')
    for name, value in {"state": state, "identity": identity, "nowayout": nowayout, "timeout": 30}.items():
        machine.write(f"sys/class/watchdog/watchdog0/{name}", f"{value}\n")
    result = facts(machine)
    (*rest,) = obstacles(entry(config="lean"), result, OURS)
    assert [obstacle.problem for obstacle in rest] == (
        [f"its hardware watchdog ({identity}, 30 s) runs on across kexec, and a lean kernel does not feed it"]
        if is_reported
        else []
    )
    assert not list(obstacles(entry(config="own"), result, OURS))
    assert not [
        obstacle
        for obstacle in obstacles(entry(config="lean", boot="grub"), result, OURS)
        if "watchdog" in obstacle.problem
    ]


def test_var_in_which_no_program_may_run_is_told_where_one_has_to(machine: Machine) -> None:
    machine.write("proc/mounts", "/dev/sda1 / ext4 rw 0 0\n/dev/sda2 /var ext4 rw,nosuid,nodev,noexec,relatime 0 0\n")
    assert against(machine, "grub") == ""
    machine.keeper("restore", "t1")
    machine.calls.write_text("")
    assert against(machine, "kexec").startswith("no program may run in /var/lib (noexec)")


def test_clock_that_steps_ends_no_lease_of_a_run_that_lives(machine: Machine) -> None:
    machine.write("proc/sys/kernel/random/boot_id", "boot-1\n")
    machine.lease(seconds=60)
    beat = machine.root / "var/lib/sealproof/beat"
    machine.write("proc/uptime", "1000.5 2000.0\n")
    assert machine.keeper("beat", "t1").returncode == 0
    for step in (-7200, 7200):
        at = beat.stat().st_mtime + step
        os.utime(beat, (at, at))
        assert machine.lease("t2").returncode == 3
        assert machine.keeper("restore", "expired").returncode == 5
    machine.write("proc/uptime", "1119.0 2000.0\n")
    late = machine.lease("t2")
    assert (late.returncode, "last heard of 119 s ago" in late.stderr) == (3, True)
    machine.write("proc/uptime", "1121.0 2000.0\n")
    assert machine.lease("t2").returncode == 4


def test_lease_of_an_earlier_boot_is_over_once_this_one_was_silent_for_long(machine: Machine) -> None:
    machine.write("proc/sys/kernel/random/boot_id", "boot-1\n")
    machine.write("proc/uptime", "90000.5 2000.0\n")
    machine.lease(seconds=60)
    machine.keeper("beat", "t1")
    machine.write("proc/sys/kernel/random/boot_id", "boot-2\n")
    machine.write("proc/uptime", "30.0 2000.0\n")
    assert machine.lease("t2").returncode == 3
    machine.write("proc/uptime", "130.0 2000.0\n")
    assert machine.lease("t2").returncode == 4
