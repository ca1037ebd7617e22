# SPDX-License-Identifier: GPL-2.0-or-later
"""The inventory: the machines that a sign-off may use, and how each is reached, watched and switched off and on.

One TOML file, ``[machine.NAME]`` a machine. A real machine is only ever touched if it is in it, and there
``expendable = true``: a run replaces its kernel for a while, and may have its power cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from common import toml_file
from common.errors import UserInputError
from common.paths import config_root, expand_home

STAGE = "inventory"
_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it is part of names of files
_NOT_MACHINES = ("auto", "emulated", "nested")  # what --host means by these names
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KINDS = {"emulated", "nested", "ssh", "none", "command", "ipmi", "netconsole"}
_WORDS = {"union_tag_not_found": "it has no kind; a name with a dot in it is written in quotes"}


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("no line break, and no other control character, may be in it")
    return text


Text = Annotated[str, AfterValidator(_one_line)]
"""A text of one line: a path or a program's argument holds no other."""


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words[0]:
        raise ValueError("its first word names a program")
    return words


Command = Annotated[tuple[Text, ...], Field(min_length=1, strict=False), AfterValidator(_program)]
"""A program of this computer, with its arguments; no shell reads it."""


class Boot(StrEnum):
    """How a real machine boots the kernel under test once; whatever comes after it is its own kernel again."""

    KEXEC = "kexec"
    GRUB = "grub"
    SYSTEMD_BOOT = "systemd-boot"


class Config(StrEnum):
    """The base of the configuration of a real machine's kernel."""

    OWN = "own"
    LEAN = "lean"


class NoConsole(BaseModel):
    """No console: kernel messages are lost until the machine answers again."""

    model_config = _STRICT
    kind: Literal["none"] = "none"


class CommandConsole(BaseModel):
    """A command whose output is the console, for instance of a serial server."""

    model_config = _STRICT
    kind: Literal["command"]
    command: Command


class IpmiConsole(BaseModel):
    """Serial over LAN of the machine's management controller, by ipmitool.

    :ivar password_file: holds the password, as ipmitool's ``-f`` takes it. :ivar port: of the controller, if not 623.
    :ivar cipher_suite: as ipmitool's ``-C`` takes it; some older controllers open no session but with 3.
    """

    model_config = _STRICT
    kind: Literal["ipmi"]
    address: Text = Field(min_length=1)
    user: Text = Field(min_length=1)
    password_file: Text = Field(min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    cipher_suite: int | None = Field(default=None, ge=0, le=255)

    @property
    def command(self) -> tuple[str, ...]:
        """What shows the console until it is ended."""
        return self._sol("activate")

    @property
    def release(self) -> tuple[str, ...]:
        """What ends another session, which has the console."""
        return self._sol("deactivate")

    def _sol(self, verb: str) -> tuple[str, ...]:
        login = ["-H", self.address, "-U", self.user, "-f", str(expand_home(self.password_file))]
        if self.port is not None:
            login += ["-p", str(self.port)]
        if self.cipher_suite is not None:
            login += ["-C", str(self.cipher_suite)]
        return ("ipmitool", "-I", "lanplus", *login, "sol", verb)


class NetConsole(BaseModel):
    """The kernel's own messages by UDP (Documentation/networking/netconsole.rst).

    :ivar interface: of the machine. :ivar target: ADDRESS:PORT by which the machine reaches this computer.
    :ivar target_mac: of the next hop to it; without it they go to all on the network.
    :ivar source: the machine's own address.
    """

    model_config = _STRICT
    kind: Literal["netconsole"]
    interface: Text = Field(min_length=1)
    source: Text = Field(min_length=1)
    target: Text
    target_mac: Text = ""

    @field_validator("target")
    @classmethod
    def _has_a_port(cls, target: str) -> str:
        match = re.fullmatch(r"[^:\s]+:(\d{1,5})", target)
        if match is None or not 1 <= int(match[1]) <= 65535:
            raise ValueError("write ADDRESS:PORT, with a port from 1 to 65535")
        return target

    @property
    def port(self) -> int:
        """The UDP port of this computer."""
        return int(self.target.rpartition(":")[2])

    @property
    def parameter(self) -> str:
        """For the kernel's command line."""
        address = self.target.rpartition(":")[0]
        return f"netconsole=@{self.source}/{self.interface},{self.port}@{address}/{self.target_mac}"


Console = Annotated[NoConsole | CommandConsole | IpmiConsole | NetConsole, Field(discriminator="kind")]


class Power(BaseModel):
    """How to switch it off and on again, for when it hangs.

    :ivar cycle: ends with status 0 once the machine has no power, or has it again.
    """

    model_config = _STRICT
    cycle: Command


class Lease(BaseModel):
    """How long a run that fell silent keeps the machine.

    :ivar seconds: without a heartbeat, after which the machine goes back to its own kernel by itself.
    """

    model_config = _STRICT
    seconds: int = Field(default=180, ge=20, le=86400)


class Limits(BaseModel):
    """Limits of the machine.

    :ivar boot: seconds that it takes at most from the order to boot until it lets us in. :ivar memory: MiB for guests.
    """

    model_config = _STRICT
    boot: int = Field(default=600, ge=10)
    memory: int = Field(default=4096, ge=512)


class Local(BaseModel):
    """A host that QEMU makes on this computer."""

    model_config = _STRICT
    kind: Literal["emulated", "nested"]


class Remote(BaseModel):
    """A real machine with Linux and systemd, reached by SSH.

    :ivar address: ``USER@MACHINE`` or ``USER@MACHINE:PORT``; the user is root, or may sudo without a password. The
        machine may be an alias of ssh_config(5), with all that it says there.
    :ivar host_key: the only one accepted, as in one of its /etc/ssh/ssh_host_*_key.pub.
    :ivar key: file of our own key; if it is encrypted, or the public half, the agent signs.
    :ivar ssh_config: a file in place of ssh's own configuration.
    :ivar command_line: words added to its kernel's command line, for instance ``console=ttyS0``.
    :ivar signs_with: fingerprint of the key by which sealproof on it signs, if it runs parts of a fleet's sign-off.
    """

    model_config = _STRICT
    kind: Literal["ssh"]
    address: Text
    host_key: Text
    key: Text = Field(min_length=1)
    ssh_config: Text = ""
    expendable: bool = False
    boot: Boot = Field(default=Boot.KEXEC, strict=False)
    config: Config = Field(default=Config.OWN, strict=False)
    command_line: Text = ""
    console: Console = NoConsole()
    power: Power | None = None
    lease: Lease = Lease()
    limits: Limits = Limits()
    signs_with: Text = ""

    @field_validator("signs_with")
    @classmethod
    def _is_a_fingerprint(cls, key: str) -> str:
        if key and not re.fullmatch(r"[0-9a-f]{64}", key):
            raise ValueError("write the 64 digits that 'sealproof merge' prints of its key")
        return key

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        _parts(f"ssh://{address}")
        return address

    @field_validator("host_key")
    @classmethod
    def _is_a_key(cls, key: str) -> str:
        if not re.fullmatch(r"(ssh|ecdsa)-\S+ [A-Za-z0-9+/=]+( .*)?", key):
            raise ValueError("write it as in the machine's /etc/ssh/ssh_host_ed25519_key.pub: 'ssh-ed25519 AAAA...'")
        return key

    @property
    def user(self) -> str:
        """Who logs in."""
        return _parts(f"ssh://{self.address}")[0]

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where its SSH server is."""
        return _parts(f"ssh://{self.address}")[1:]

    @property
    def port(self) -> int | None:
        """Its SSH server's port, if the address has one."""
        return urlsplit(f"ssh://{self.address}").port

    @property
    def ssh_options(self) -> tuple[str, ...]:
        """Of ssh, as a person would call it."""
        return ("-F", str(expand_home(self.ssh_config))) if self.ssh_config else ()

    @property
    def key_file(self) -> Path:
        """Our private key."""
        return expand_home(self.key)


Machine = Annotated[Local | Remote, Field(discriminator="kind")]


class Inventory(BaseModel):
    """All machines, by name."""

    model_config = _STRICT
    machine: Mapping[str, Machine] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_words(self) -> Inventory:
        for name in self.machine:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a valid name: up to 100 letters and digits, and . _ - after the first"
                )
            if name in _NOT_MACHINES and isinstance(self.machine[name], Remote):
                raise ValueError(f"{name!r} is a kind of host: --host {name} would mean that, and not the machine")
        return self

    def find(self, machine_name: str) -> tuple[str, Local | Remote] | None:
        """The machine that is meant: by its name, or by ``ssh://`` and its address."""
        if machine_name in self.machine:
            return machine_name, self.machine[machine_name]
        if machine_name.startswith("ssh://"):
            parts = _parts(machine_name)
            for name, machine in self.machine.items():
                if isinstance(machine, Remote) and (machine.user, *machine.endpoint) == parts:
                    return name, machine
        return None


def signing_keys(path: Path) -> dict[str, str]:
    """The keys by which machines sign parts of a fleet's sign-off: fingerprints, by the machines' names.

    :raises UserInputError: the inventory cannot be read or is not right.
    """
    machines = load(path).machine
    return {
        name: machine.signs_with
        for name, machine in machines.items()
        if isinstance(machine, Remote) and machine.signs_with
    }


def default_path() -> Path:
    """The inventory where none is named: ``sealproof/inventory.toml`` below ``XDG_CONFIG_HOME``, or ``~/.config``."""
    return config_root() / "inventory.toml"


def load(path: Path) -> Inventory:
    """Read an inventory.

    :raises UserInputError: it cannot be read or is not right; names line and field of each fault.
    """
    text, document = _read(path)
    try:
        return Inventory.model_validate(document)
    except ValidationError as error:
        raise _faulty(path, text, error) from error


def load_each(path: Path) -> dict[str, Local | Remote | UserInputError]:
    """Read an inventory machine by machine: what is wrong with one does not hide the others.

    :raises UserInputError: it cannot be read, or something is wrong that is no machine's.
    """
    text, document = _read(path)
    try:
        return dict(Inventory.model_validate(document).machine)
    except ValidationError as error:
        tables, whole = document.get("machine"), _faulty(path, text, error)
    if not isinstance(tables, dict) or not tables or len(document) > 1:
        raise whole
    machines: dict[str, Local | Remote | UserInputError] = {}
    for name, table in tables.items():
        try:
            machines |= Inventory.model_validate({"machine": {name: table}}).machine
        except ValidationError as error:
            machines[name] = _faulty(path, text, error)
    return machines


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    hint = "write it as docs/real-machines.md shows, as UTF-8 text, and name it with --inventory FILE"
    return toml_file.parse(path, stage=STAGE, hint=hint)


def _faulty(path: Path, text: str, error: ValidationError) -> UserInputError:
    words = "\n".join(toml_file.faults(path, text, error, unnamed=_KINDS, words=_WORDS))
    return UserInputError(words, stage=STAGE, hint="correct these lines", artefact=path)


def real_machine(path: Path, machine_name: str) -> tuple[str, Remote]:
    """The real machine that is meant, if it may be touched.

    :raises UserInputError: it is not in the inventory, or not expendable.
    """
    entry = load(path).find(machine_name)
    if entry is None:
        raise UserInputError(
            f"{machine_name} is not in the inventory {path}",
            stage=STAGE,
            hint="only a machine with an entry is touched: add [machine.NAME] with kind, address, host_key, key",
        )
    name, machine = entry
    if not isinstance(machine, Remote):
        raise UserInputError(f"{name} is of kind {machine.kind}: there is no machine to connect to", stage=STAGE)
    require_expendable(path, name, machine)
    return name, machine


def require_expendable(path: Path, name: str, machine: Remote) -> None:
    """Refuse a machine that its owner has not marked as expendable.

    :raises UserInputError: it is not expendable.
    """
    if not machine.expendable:
        raise UserInputError(
            f"{name} is not marked as expendable: a run reboots it, and may cut its power",
            stage=STAGE,
            hint=f"if that is acceptable, write expendable = true in [machine.{name}] of {path}",
            artefact=path,
        )


def _parts(url: str) -> tuple[str, str, int]:
    """User, machine and port of ``ssh://USER@MACHINE:PORT``.

    :raises ValueError: the address has another form.
    """
    try:
        split: SplitResult = urlsplit(url)
        user, host, port = split.username, split.hostname, 22 if split.port is None else split.port
    except ValueError as error:
        raise ValueError(f"not an address: {error}") from error
    if not port:
        raise ValueError("0 is no port")
    if not user or not host or split.path or split.query or split.fragment or split.password:
        raise ValueError("write USER@MACHINE or USER@MACHINE:PORT")
    return user, host, port
