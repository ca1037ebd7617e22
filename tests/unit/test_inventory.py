# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UserInputError
from host_setup import inventory
from host_setup.inventory import Boot, Config, IpmiConsole, Local, NetConsole, Remote

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+abc="
WHOLE = f"""\
[machine.here]
kind = "emulated"

[machine.rack1-07]
kind = "ssh"
address = "root@10.1.0.7:2200"
host_key = "{KEY} root@rack1-07"
key = "~/.ssh/lab"
expendable = true
boot = "grub"
console = {{ kind = "ipmi", address = "10.1.1.7", user = "lab", password_file = "/etc/lab" }}

[machine.rack1-07.power]
cycle = ["ipmitool", "-H", "10.1.1.7", "chassis", "power", "cycle"]

[machine.rack1-07.lease]
seconds = 60

[machine.other]
kind = "ssh"
address = "lab@other"
host_key = "{KEY}"
key = "/k"

[machine.other.console]
kind = "netconsole"
interface = "eth0"
source = "10.1.0.8"
target = "10.1.0.1:6666"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "lab.toml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(UserInputError) as caught:
        inventory.load(write(folder, text))
    return caught.value.message.splitlines()


def test_whole_inventory_is_read(tmp_path: Path) -> None:
    result = inventory.load(write(tmp_path, WHOLE)).machine
    assert result["here"] == Local(kind="emulated")
    machine, other = result["rack1-07"], result["other"]
    assert isinstance(machine, Remote)
    assert isinstance(other, Remote)
    assert (machine.user, machine.endpoint, machine.boot, machine.config) == (
        "root",
        ("10.1.0.7", 2200),
        Boot.GRUB,
        Config.OWN,
    )
    assert machine.power is not None
    assert machine.power.cycle[0] == "ipmitool"
    assert isinstance(machine.console, IpmiConsole)
    assert machine.console.command[-2:] == ("sol", "activate")
    assert (machine.lease.seconds, other.lease.seconds) == (60, 180)
    assert (other.endpoint, other.expendable, other.boot) == (("other", 22), False, Boot.KEXEC)
    assert isinstance(other.console, NetConsole)
    assert other.console.parameter == "netconsole=@10.1.0.8/eth0,6666@10.1.0.1/"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "emulated"', 'kind = "abacus"', "lab.toml:1: machine.here: Input tag 'abacus'"),
        ('boot = "grub"', 'boot = "floppy"', "lab.toml:10: machine.rack1-07.boot: Input should be 'kexec'"),
        ("expendable = true", 'expendable = "yes"', "lab.toml:9: machine.rack1-07.expendable: Input should be a valid"),
        ("expendable = true", "expandable = true", "lab.toml:9: machine.rack1-07.expandable: Extra inputs"),
        ('"root@10.1.0.7:2200"', '"10.1.0.7"', "lab.toml:6: machine.rack1-07.address: write USER@MACHINE"),
        (':2200"', ':port"', "lab.toml:6: machine.rack1-07.address: not an address: Port could not be cast"),
        ("seconds = 60", "seconds = 0", "lab.toml:17: machine.rack1-07.lease.seconds: Input should be greater"),
        ('user = "lab", ', "", "lab.toml:11: machine.rack1-07.console.user: Field required"),
        ('"10.1.0.1:6666"', '"10.1.0.1"', "lab.toml:29: machine.other.console.target: write ADDRESS:PORT"),
        ('key = "/k"\n', "", "lab.toml:19: machine.other.key: Field required"),
        (KEY + '"', '-----BEGIN"', "lab.toml:22: machine.other.host_key: write it as in the machine's"),
        ("[machine.here]", '[machine."a b"]', "lab.toml:1: 'a b' is not a valid name"),
        ("[machine.here]", "[machines.here]", "lab.toml:1: machines: Extra inputs"),
        ("[machine.here]", f"[machine.{'x' * 101}]", "lab.toml:1: 'xxxx"),
        ("[machine.other", "[machine.auto", "lab.toml:1: 'auto' is a kind of host"),
        ("[machine.here]", "[machine.rack.7]", "lab.toml:1: machine.rack: it has no kind; a name with a dot"),
        (':2200"', ':0"', "lab.toml:6: machine.rack1-07.address: 0 is no port"),
        (':6666"', ':99999"', "lab.toml:29: machine.other.console.target: write ADDRESS:PORT, with a port from 1"),
        ('"root@10.1.0.7:2200"', '"root@10.1.0.7\\n:2200"', "lab.toml:6: machine.rack1-07.address: no line break"),
        ('key = "/k"', 'key = "/k\\u0000"', "lab.toml:23: machine.other.key: no line break"),
        ('"ipmitool"', '"ipmitool", "\\u0000"', "lab.toml:14: machine.rack1-07.power.cycle.1: no line break"),
        ('"ipmitool"', '""', "lab.toml:14: machine.rack1-07.power.cycle: its first word names a program"),
    ],
)
def test_fault_names_line_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = WHOLE.replace(old, new)
    assert text != WHOLE
    result = faults(tmp_path, text)
    assert any(fault.startswith(message) for fault in result), result


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, WHOLE.replace('"grub"', '"x"').replace("= 60", "= 0"))) == 2


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "(at line 2, column 1)" in faults(tmp_path, "[machine.a]\n= 3\n")[0]
    assert faults(tmp_path, "")[0].startswith("lab.toml:1: machine: Field required")
    assert "not TOML" in faults(tmp_path, f"a = {'[' * 5000}")[0]


def test_byte_order_mark_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(WHOLE, encoding="utf-8-sig")
    assert inventory.load(tmp_path / "lab.toml").machine["here"] == Local(kind="emulated")


def test_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(UserInputError) as caught:
        inventory.load(tmp_path / "none.toml")
    assert "--inventory" in caught.value.hint


@pytest.mark.parametrize("host", ["rack1-07", "ssh://root@10.1.0.7:2200"])
def test_machine_is_found_by_name_and_by_address(tmp_path: Path, host: str) -> None:
    name, machine = inventory.real_machine(write(tmp_path, WHOLE), host)
    assert (name, machine.user) == ("rack1-07", "root")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("ssh://root@10.1.0.7", "not in the inventory"),  # the port is another one
        ("ssh://lab@10.1.0.7:2200", "not in the inventory"),
        ("ssh://root@10.9.9.9", "not in the inventory"),
        ("other", "other is not marked as expendable"),
        ("ssh://lab@other", "other is not marked as expendable"),
        ("here", "no machine to connect to"),
    ],
)
def test_machine_that_is_not_there_as_expendable_is_never_touched(tmp_path: Path, host: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        inventory.real_machine(write(tmp_path, WHOLE), host)


def test_default_is_below_the_users_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert inventory.default_path() == tmp_path / "sealproof" / "inventory.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inventory.default_path() == tmp_path / ".config" / "sealproof" / "inventory.toml"


def test_keys_by_which_machines_sign_are_told(tmp_path: Path) -> None:
    text = WHOLE.replace('boot = "grub"\n', f'boot = "grub"\nsigns_with = "{"ab" * 32}"\n')
    assert inventory.signing_keys(write(tmp_path, text)) == {"rack1-07": "ab" * 32}
    assert inventory.signing_keys(write(tmp_path, WHOLE)) == {}


def test_a_key_that_is_no_fingerprint_is_refused(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, WHOLE.replace('boot = "grub"\n', 'boot = "grub"\nsigns_with = "SHA256:x"\n'))
    assert "signs_with" in fault
    assert "64 digits" in fault
