# SPDX-License-Identifier: GPL-2.0-or-later
"""A real SSH server in this process, for the tests of the client: it runs commands by this machine's shell."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from host_setup.channels.ssh import Login

CHUNK = 1 << 15


def new_key(path: Path) -> paramiko.Ed25519Key:
    """A fresh key, in a file as OpenSSH has it."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.write_bytes(pem)
    return paramiko.Ed25519Key.from_private_key_file(str(path))


class Server(paramiko.ServerInterface):
    """One machine that is reached by SSH.

    :ivar ignores: what it never answers: ``login`` or ``exec``.
    """

    def __init__(self, folder: Path) -> None:
        self.host_key = new_key(folder / "host")
        self.user_key = new_key(folder / "client")
        self.login = Login("root", folder / "client", f"ssh-ed25519 {self.host_key.get_base64()}")
        self.ignores = ""
        self.over = threading.Event()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._transports: list[paramiko.Transport] = []
        self._targets: dict[int, tuple[str, int]] = {}

    def connect(self) -> Wire:
        """A wire to it, whose other end it serves."""
        wire = Wire()
        transport = paramiko.Transport(wire.far)
        transport.add_server_key(self.host_key)
        self._transports.append(transport)
        threading.Thread(target=self._serve, args=(transport,), daemon=True).start()
        return wire

    def close(self) -> None:
        """End all."""
        self.over.set()
        for transport in self._transports:
            transport.close()
        for process in self.processes:
            process.kill()
            process.wait()

    def _serve(self, transport: paramiko.Transport) -> None:
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(server=self)
            while not self.over.is_set() and transport.is_active():
                channel = transport.accept(0.1)
                if channel is not None and channel.chanid in self._targets:
                    self._forward(channel, self._targets.pop(channel.chanid))

    def _forward(self, channel: paramiko.Channel, target: tuple[str, int]) -> None:
        far = socket.create_connection(target)

        def out() -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := channel.recv(CHUNK):
                    far.sendall(data)
                far.shutdown(socket.SHUT_WR)

        def home() -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := far.recv(CHUNK):
                    channel.sendall(data)
            with contextlib.suppress(EOFError):
                channel.close()

        for run in (out, home):
            threading.Thread(target=run, daemon=True).start()

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.processes.append(process)
        assert process.stdin and process.stdout and process.stderr
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr

        request_heard = threading.Event()

        def feed() -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := channel.recv(CHUNK):
                    request_heard.set()
                    view = memoryview(data)
                    while view:
                        view = view[stdin.write(view) :]
            request_heard.set()
            with contextlib.suppress(OSError):
                stdin.close()

        def tell_errors() -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := stderr.read(CHUNK):
                    channel.sendall_stderr(data)

        helpers = [threading.Thread(target=run, daemon=True) for run in (feed, tell_errors)]
        for helper in helpers:
            helper.start()
        with contextlib.suppress(OSError, EOFError):
            while data := stdout.read(CHUNK):
                channel.sendall(data)
        helpers[1].join()
        status = process.wait()
        # A channel that closes before paramiko has answered the request to run the command is an error to the client.
        # What the client sends comes after that answer; one that sends nothing is not waited for long.
        request_heard.wait(1.0)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if status >= 0:
                channel.send_exit_status(status)
            channel.close()

    # What paramiko asks of a server.

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if self.ignores == "login":
            self.over.wait(60)
        is_known = username == "root" and key == self.user_key
        return int(paramiko.AUTH_SUCCESSFUL if is_known else paramiko.AUTH_FAILED)

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if self.ignores == "exec":
            self.over.wait(60)
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(
        self,
        chanid: int,
        origin: tuple[str, int],  # noqa: ARG002
        destination: tuple[str, int],
    ) -> int:
        with contextlib.suppress(OSError):
            socket.create_connection(destination, timeout=5).close()
            self._targets[chanid] = destination
            return int(paramiko.OPEN_SUCCEEDED)
        return int(paramiko.OPEN_FAILED_CONNECT_FAILED)


class Wire:
    """A stream that can freeze: it stays open, and nothing moves any more."""

    def __init__(self) -> None:
        self.near, near = socket.socketpair()
        far, self.far = socket.socketpair()
        self._inner = (near, far)
        self._flows = threading.Event()
        self._flows.set()
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._flows.wait()
                sink.sendall(data)
        self.cut()

    def freeze(self) -> None:
        """Let nothing through any more."""
        self._flows.clear()

    def cut(self) -> None:
        """End it at both ends."""
        self._flows.set()
        for end in self._inner:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
