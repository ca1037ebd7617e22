# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines as their owners have them, with OpenSSH's own server: each is reached, or one line says what to do."""

from __future__ import annotations

import base64
import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.errors import AccessError, SealproofError, UserInputError
from common.waiting import Deadline
from host_setup.channels import credentials
from host_setup.channels.ssh import Completed
from host_setup.inventory import Remote
from host_setup.remote import shell
from host_setup.remote.control import Control
from host_setup.tools import remote_doctor as doctor
from host_setup.tools.doctor import Grade
from tests.unit.sshd import Sshd, new_key, require_sshd, start

require_sshd()

ME = getpass.getuser()
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root logs in without sudo, and may let others in")
Serve = Callable[..., Sshd]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys: ours, and a machine's of each type."""
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder / "key")
    for kind in ("ed25519", "rsa", "ecdsa"):
        new_key(folder / f"host_{kind}", "-t", kind)
    return folder


@pytest.fixture
def folder(keys: Path, tmp_path: Path) -> Path:
    """A folder with keys, to do with what one likes."""
    for path in keys.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    servers: list[Sshd] = []

    def start_sshd(*settings: str, keys: tuple[str, ...] = ("ed25519", "rsa", "ecdsa")) -> Sshd:
        authorized = f"AuthorizedKeysFile {folder / 'key.pub'}"
        paths = [folder / f"host_{kind}" for kind in keys]
        servers.append(start(folder, f"sshd{len(servers)}", paths, [*settings, authorized]))
        return servers[-1]

    yield start_sshd
    for server in servers:
        server.end()


@pytest.fixture
def agent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield path
    process.kill()
    process.wait()


def add(key: Path, folder: Path, passphrase: str = "") -> None:
    """Give the agent a key."""
    ask = folder / "ask"
    ask.write_text(f"#!/bin/sh\necho {passphrase}\n")
    ask.chmod(0o700)
    env = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(key)], env=env, check=True, timeout=30, stderr=subprocess.DEVNULL)


def machine(server: Sshd | int, folder: Path, kind: str = "ed25519", user: str = ME, **more: Any) -> Remote:
    port = server if isinstance(server, int) else server.port
    fields = {
        "kind": "ssh",
        "address": f"{user}@127.0.0.1:{port}",
        "host_key": (folder / f"host_{kind}.pub").read_text().strip(),
        "key": str(folder / "key"),
        "expendable": True,
        "ssh_config": "/dev/null",
    }
    return Remote.model_validate({**fields, **more})


def reach(remote: Remote, seconds: float = 10) -> str:
    """What the machine's shell says who it is."""
    control = Control("far", remote)
    try:
        control.connect(Deadline(seconds))
        return control.run(["id", "-un"], seconds=10).require().text
    finally:
        control.close()


def refusal_of(remote: Remote) -> SealproofError:
    """The error of a machine that cannot be reached: its message is one line, and it has a next step."""
    with pytest.raises(SealproofError) as caught:
        reach(remote, 3)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


# --- host keys


@as_root
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_host_key_of_any_type_that_the_machine_has_is_the_one_that_is_asked_for(
    serve: Serve, folder: Path, kind: str
) -> None:
    assert reach(machine(serve(), folder, kind)) == "root"


def test_host_key_of_a_type_that_the_machine_has_not_is_told(serve: Serve, folder: Path) -> None:
    server = serve(keys=("ed25519",))
    error = refusal_of(machine(server, folder, "rsa"))
    assert "has no host key of type ssh-rsa" in error.message
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in error.hint


def test_another_key_of_the_right_type_is_told(serve: Serve, folder: Path) -> None:
    (folder / "host_ed25519.pub").write_text((folder / "key.pub").read_text())
    assert "another host key (ssh-ed25519)" in refusal_of(machine(serve(), folder)).message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("ssh-ed25519 AAAA", "the host key is damaged"),
        ("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIBOgrl2VmbIKMrN8pEJLG3sGVEBMzQVPDP9wPAVVTNfJ", "the host key is damaged"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "a host key of type ssh-dss cannot be checked"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "of type ssh-ed25519-cert-v01@openssh.com cannot be checked"),
    ],
)
def test_host_key_that_cannot_be_is_told(serve: Serve, folder: Path, key: str, message: str) -> None:
    assert message in refusal_of(machine(serve(), folder, host_key=key)).message


@as_root
def test_server_with_few_algorithms_is_spoken_to_by_those(serve: Serve, folder: Path) -> None:
    few = ("KexAlgorithms diffie-hellman-group16-sha512", "Ciphers aes256-gcm@openssh.com", "MACs hmac-sha2-512")
    assert reach(machine(serve(*few), folder)) == "root"


def test_server_without_an_algorithm_of_ours_is_told(serve: Serve, folder: Path) -> None:
    error = refusal_of(machine(serve("Ciphers chacha20-poly1305@openssh.com"), folder))
    assert "no algorithm in common" in error.message
    assert "aes256-ctr" in error.hint


# --- our key


def unusable(folder: Path) -> dict[str, str]:
    """Files that are no key, or none that can be used, with what is to be said of each."""
    for name, words in (("locked", ()), ("locked_pem", ("-t", "rsa", "-m", "PEM")), ("locked_pkcs8", ("-m", "PKCS8"))):
        kind = ("-t", "ecdsa") if name == "locked_pkcs8" else ()
        new_key(folder / name, *words, *kind, "-N", "secret")
    (folder / "locked_pem.pub").unlink()
    (folder / "empty").write_text("")
    (folder / "blank").write_text("\n\n")
    (folder / "junk").write_bytes(os.urandom(100))
    (folder / "prose").write_text("my key is in the drawer\n")
    (folder / "putty").write_text("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n")
    (folder / "dsa").write_text("-----BEGIN DSA PRIVATE KEY-----\nMIIBuw==\n-----END DSA PRIVATE KEY-----\n")
    (folder / "cut").write_text("".join((folder / "key").read_text().splitlines(keepends=True)[:2]))
    (folder / "cut_inside").write_text(_openssh(b"ssh-ed25519")[:-60] + "\n-----END OPENSSH PRIVATE KEY-----\n")
    (folder / "new_dsa").write_text(_openssh(b"ssh-dss"))
    (folder / "token").write_text(_openssh(b"sk-ssh-ed25519@openssh.com"))
    (folder / "odd").write_text(_openssh(b"ssh-xmss@openssh.com"))
    (folder / "pem_junk").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    shutil.copy(folder / "locked.pub", folder / "public")
    return {
        "key.pub": "is the public half of a key",
        "public": "is the public half of a key, but no agent (SSH_AUTH_SOCK) has the private half",
        "locked": "is encrypted, but no agent (SSH_AUTH_SOCK) has it",
        "locked_pem": "is encrypted",
        "locked_pkcs8": "is encrypted, but no agent (SSH_AUTH_SOCK) has it",
        "empty": "is empty",
        "blank": "is empty",
        "junk": "is not a private key",
        "prose": "is not a private key",
        "putty": "is a PuTTY key",
        "dsa": "is a DSA key",
        "new_dsa": "is a DSA key",
        "cut": "is damaged",
        "cut_inside": "cannot be used",
        "token": "needs its token, but no agent (SSH_AUTH_SOCK) has it",
        "odd": "cannot be used",
        "pem_junk": "cannot be used",
    }


def _openssh(kind: bytes) -> str:
    """A private key of a type that ssh-keygen here does not make."""

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    public = string(kind) + string(b"x" * 32)
    inner = b"\0" * 8 + public + string(b"y" * 64) + string(b"me") + b"\1\2\3\4"
    whole = b"openssh-key-v1\0" + string(b"none") * 2 + string(b"") + b"\0\0\0\1" + string(public) + string(inner)
    armour = "-----{} OPENSSH PRIVATE KEY-----\n"
    return armour.format("BEGIN") + base64.encodebytes(whole).decode() + armour.format("END")


def test_doctor_has_one_line_for_each_file_that_is_no_key_and_hides_no_machine(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    output, server = unusable(folder), serve("MaxStartups 100")
    lines = []
    for name in [*output, "key"]:
        remote = machine(server, folder, key=str(folder / name))
        fields = {"kind": "ssh", "address": remote.address, "host_key": remote.host_key, "key": remote.key}
        lines += [f"[machine.{name.replace('.', '-')}]", *(f'{field} = "{value}"' for field, value in fields.items())]
    lines += ["[machine.wrong]", 'kind = "ssh"', 'address = "nowhere"', 'host_key = "x"']
    (folder / "lab.toml").write_text("\n".join(lines) + "\n")
    assert doctor.main([str(folder / "lab.toml")]) == 1
    shown = capsys.readouterr().out.splitlines()
    for name, words in output.items():
        message = [line for line in shown if line.split()[:2] == ["STOP", name.replace(".", "-")]]
        assert len(message) == 1, shown
        assert f"the key {folder / name} {words}" in message[0]
    assert len([line for line in shown if line.split()[:2] == ["STOP", "wrong"]]) == 3
    if os.geteuid() == 0:
        assert any(line.startswith("  ok      key ") and "Linux" in line for line in shown)


def test_machine_on_which_doctor_itself_fails_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "Control", fail)
    (finding,) = doctor.examine("far", machine(1, folder))
    assert (finding.state, finding.fact) == (Grade.STOP, "doctor failed on this machine: RuntimeError: two")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_key_that_may_not_be_read_is_told(serve: Serve, folder: Path) -> None:
    (folder / "key").chmod(0)
    assert "cannot be read: Permission denied" in refusal_of(machine(serve(), folder)).message


@as_root
@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    "words", [(), ("-t", "rsa", "-b", "2048", "-m", "PEM"), ("-t", "ecdsa", "-b", "521", "-m", "PKCS8")]
)
@pytest.mark.parametrize("half", ["", ".pub"])
def test_key_with_a_passphrase_signs_by_the_agent(
    serve: Serve, folder: Path, words: tuple[str, ...], half: str
) -> None:
    other = new_key(folder / "locked", *words, "-N", "secret")
    server = serve(f"AuthorizedKeysFile {other}.pub")
    add(folder / "key", folder)
    assert "is encrypted" in refusal_of(machine(server, folder, key=str(other))).message
    add(other, folder, "secret")
    assert reach(machine(server, folder, key=f"{other}{half}")) == "root"


@as_root
def test_agent_of_ssh_config_is_asked(serve: Serve, folder: Path, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_key(folder / "locked", "-N", "secret")
    server = serve(f"AuthorizedKeysFile {other}.pub")
    add(other, folder, "secret")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(folder / "none"))
    (folder / "config").write_text(f"Host *\n IdentityAgent {agent}\n")
    assert reach(machine(server, folder, key=str(other), ssh_config=str(folder / "config"))) == "root"


def test_agent_that_says_nothing_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "AGENT", 0.1)
    other = new_key(folder / "locked", "-N", "secret")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "silent"))
        silent.listen()
        login = credentials.Login(ME, other, "", str(folder / "silent"))
        with pytest.raises(UserInputError, match="is encrypted, but no agent"), credentials.signers(login):
            pass


# --- certificates


@as_root
@pytest.mark.parametrize("passphrase", ["", "secret"])
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.usefixtures("agent")
def test_certificate_beside_the_key_lets_us_in(serve: Serve, folder: Path, kind: str, passphrase: str) -> None:
    authority, ours = new_key(folder / "ca"), new_key(folder / "ours", "-t", kind, "-N", passphrase)
    server = serve(f"TrustedUserCAKeys {authority}.pub")
    if passphrase:
        add(ours, folder, passphrase)
    error = refusal_of(machine(server, folder, key=str(ours)))
    assert f"does not let us in as root with the key {ours}" in error.message
    assert "authorized_keys of root" in error.hint
    _certify(authority, ours, "always:forever")
    assert reach(machine(server, folder, key=str(ours))) == "root"


@as_root
def test_certificate_that_ssh_config_names_lets_us_in_and_a_stale_one_does_not_hinder(
    serve: Serve, folder: Path
) -> None:
    authority, ours = new_key(folder / "ca"), new_key(folder / "ours")
    server = serve(f"TrustedUserCAKeys {authority}.pub")
    _certify(authority, ours, "always:forever")
    (folder / "ours-cert.pub").rename(folder / "elsewhere")
    _certify(authority, ours, "20200101:20200102")
    (folder / "config").write_text(f"Host *\n CertificateFile {folder}/elsewhere\n")
    assert reach(machine(server, folder, key=str(ours), ssh_config=str(folder / "config"))) == "root"
    _certify(authority, folder / "key", "20200101:20200102")
    assert reach(machine(server, folder)) == "root"


def _certify(authority: Path, key: Path, valid: str) -> None:
    argv = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "root", "-V", valid, f"{key}.pub"]
    subprocess.run(argv, check=True, timeout=30, stderr=subprocess.DEVNULL)


# --- ways


@as_root
@pytest.mark.parametrize("hops", [1, 2])
def test_jumps_of_ssh_config_are_made(serve: Serve, folder: Path, hops: int) -> None:
    target, *gates = [serve() for _ in range(hops + 1)]
    lines = [
        *("Host rack1", "HostName 127.0.0.1", f"Port {target.port}"),
        f"ProxyJump {','.join(f'gate{number}' for number in range(hops))}",
    ]
    for number, gate in enumerate(gates):
        lines += [f"Host gate{number}", "HostName 127.0.0.1", f"Port {gate.port}", "User root"]
    lines += ["Host *", f"IdentityFile {folder / 'key'}", f"UserKnownHostsFile {folder / 'known'}"]
    (folder / "known").write_text(
        "".join(f"[127.0.0.1]:{gate.port} {(folder / 'host_ed25519.pub').read_text()}" for gate in gates)
    )
    (folder / "config").write_text("\n".join(lines) + "\n")
    remote = machine(target, folder, address="root@rack1", ssh_config=str(folder / "config"))
    assert reach(remote) == "root"
    for gate in gates:
        assert "Accepted publickey for root" in gate.log.read_text()
    (folder / "known").write_text("")
    assert re.search("the way through gate0.* failed: .*Host key verification failed", refusal_of(remote).message)


@as_root
def test_proxy_command_of_ssh_config_is_run_with_its_words(serve: Serve, folder: Path) -> None:
    server = serve()
    words = f"sh -c 'echo %n %h %p %r %% > {folder}/words; exec ssh -F {folder}/way -W %h:%p way'"
    (folder / "way").write_text(
        f"Host way\n HostName 127.0.0.1\n Port {server.port}\n User root\n IdentityFile {folder}/key\n"
        f" StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n"
    )
    (folder / "config").write_text(f"Host far\n HostName 127.0.0.1\n Port {server.port}\n ProxyCommand {words}\n")
    assert reach(machine(server, folder, address="root@far", ssh_config=str(folder / "config"))) == "root"
    assert (folder / "words").read_text() == f"far 127.0.0.1 {server.port} root %\n"


def test_proxy_that_fails_is_told_with_its_last_words(folder: Path) -> None:
    (folder / "config").write_text("Host *\n ProxyCommand sh -c 'echo no such gate >&2; exit 7'\n")
    error = refusal_of(machine(1, folder, ssh_config=str(folder / "config")))
    assert "failed: no such gate" in error.message


def test_configuration_that_ssh_does_not_take_is_told(folder: Path) -> None:
    (folder / "config").write_text("Hots x\n")
    error = refusal_of(machine(1, folder, ssh_config=str(folder / "config")))
    assert "Bad configuration option: hots" in error.message


# --- who may do what there


@as_root
def test_user_whose_shell_takes_no_command_is_told(serve: Serve, folder: Path) -> None:
    letting = f"AuthorizedKeysCommand /bin/cat {folder / 'key.pub'}"  # which that user could not read
    error = refusal_of(machine(serve(letting, "AuthorizedKeysCommandUser root"), folder, user="nobody"))
    assert (
        "the login shell of nobody does not run our command: This account is currently not available" in error.message
    )


@as_root
def test_forced_command_is_told(serve: Serve, folder: Path) -> None:
    error = refusal_of(machine(serve("ForceCommand echo Backups only."), folder))
    assert "does not run our command: Backups only." in error.message


@as_root
def test_greeting_of_a_shell_is_no_part_of_what_a_command_says(serve: Serve, folder: Path) -> None:
    greets = 'echo Welcome; echo busy >&2; eval "$SSH_ORIGINAL_COMMAND"'
    control = Control("far", machine(serve(f"ForceCommand {greets}"), folder))
    done = control.run(["sh", "-c", "cat; echo no >&2; exit 3"], seconds=10, stdin=b"\0in")
    assert (done.status, done.stdout, done.stderr) == (3, b"\0in", b"no\n")
    assert control.facts()["machine"] == os.uname().machine
    control.close()


@as_root
@pytest.mark.parametrize("setting", ["", "AllowTcpForwarding no", "DisableForwarding yes", "PermitOpen none"])
def test_server_that_forwards_nothing_is_told(serve: Serve, folder: Path, setting: str) -> None:
    remote = machine(serve(setting), folder)
    listing = [finding.fact for finding in doctor.examine("far", remote)]
    assert ("its SSH server forwards no connections, but sealproof reaches guests through them" in listing) == bool(
        setting
    )


@as_root
def test_server_that_wants_more_than_a_key_is_told(serve: Serve, folder: Path) -> None:
    more = serve("PasswordAuthentication yes", "AuthenticationMethods publickey,password")
    assert "accepts our key, but demands more of root: password" in refusal_of(machine(more, folder)).message


def test_server_that_takes_no_key_is_told(serve: Serve, folder: Path) -> None:
    none = serve("PasswordAuthentication yes", "PubkeyAuthentication no", "PermitRootLogin yes")
    assert f"accepts no key for {ME}, only: password" in refusal_of(machine(none, folder)).message


ODD = [
    "$HOME",
    "two  words",
    "it's",
    "",
    "a;b",
    "*",
    "!!",
    "new\nline",
    "back\\slash",
    '"',
    "~",
    "%s",
    "`id`",
    "x" * 4000,
]


@pytest.mark.parametrize("login", ["sh", "dash", "bash", "csh", "tcsh", "fish", "zsh", "ksh"])
def test_login_shell_of_any_kind_hands_a_command_on_as_it_is(login: str) -> None:
    if shutil.which(login) is None:
        pytest.skip(f"there is no {login} here")
    argv = ["sh", "-c", 'printf "%s|" "$@"; cat', "sh", *ODD]
    done = subprocess.run(
        [login, "-c", shell.line(argv, sudo=False)], input=b"\0in\n", capture_output=True, timeout=30, check=False
    )
    output = shell.result(argv, Completed((), done.returncode, done.stdout, done.stderr), "far", "me")
    assert output.stdout.decode() == "|".join([*ODD, "\0in\n"])


def sudo(path: str, *before: str) -> Completed:
    argv = [*before, "sh", "-c", shell.line(["id", "-u"], sudo=True)]
    done = subprocess.run(argv, env={"PATH": path}, capture_output=True, timeout=30, check=False)
    return shell.result(["id"], Completed((), done.returncode, done.stdout, done.stderr), "far", "kim")


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("echo 'sudo: a password is required' >&2; exit 1", "a password is required"),
        ("echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1", "you must have a tty to run sudo"),
        ("echo 'kim is not in the sudoers file.' >&2; exit 1", "kim is not in the sudoers file."),
        ("exit 1", "it says nothing"),
    ],
)
def test_sudo_that_refuses_is_told_with_the_line_that_it_needs(tmp_path: Path, does: str, message: str) -> None:
    (tmp_path / "sudo").write_text(f"#!/bin/sh\n{does}\n")
    (tmp_path / "sudo").chmod(0o700)
    with pytest.raises(AccessError, match=re.escape("kim cannot run a command as root: ")) as caught:
        sudo(f"{tmp_path}:/usr/bin:/bin")
    assert caught.value.message.endswith(message)
    assert "kim ALL=(root) NOPASSWD: ALL" in caught.value.hint


def test_sudo_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("sh", "base64", "tr"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    with pytest.raises(AccessError, match=r"cannot run a command as root: .*sudo: not found"):
        sudo(str(tmp_path))


@as_root
@pytest.mark.skipif(shutil.which("sudo") is None, reason="there is no sudo here")
def test_real_sudo_of_a_user_with_a_password_is_told() -> None:
    assert sudo("/usr/bin:/bin").text == "0"
    with pytest.raises(AccessError, match="kim cannot run a command as root: sudo: a password is required"):
        sudo("/usr/bin:/bin", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_command_of_a_user_goes_through_sudo() -> None:
    assert "sudo" in base64.b64decode("".join(shlex.split(shell.line(["id"], sudo=True))[4:])).decode()
