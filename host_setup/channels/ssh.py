# SPDX-License-Identifier: GPL-2.0-or-later
"""SSH to a machine, by paramiko: commands, line protocols, tunnels, and jumps to the machine behind it.

paramiko waits forever when its peer dies silently. So every call here has a deadline, a keepalive runs, and the death
of the machine closes the transport, which ends each call under way.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import paramiko

from common.errors import AccessError, ChannelError, DeadlineError, SealproofError
from common.waiting import Deadline, poll_until
from host_setup.channels.credentials import HostKey, Login, signers
from host_setup.channels.vitals import Vitals

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it logs reaches the user as an error of ours

Stream = socket.socket | paramiko.Channel
CHUNK = 1 << 16
KEEPALIVE = 5  # seconds
CLOSING = 5.0  # seconds that a peer gets to take the news that a channel ends
GRACE = 1.0  # seconds beyond a deadline after which the session of a call that still waits is closed
NO_STATUS = -1  # paramiko's, for a command that ended by a signal, or with its session
SETTLE = 0.5  # seconds that a session which breaks takes at most to end, once its channels did
# Under software emulation the key exchange is most of a connection's time: the cheapest modern choice goes first.
KEX = ("curve25519-sha256@libssh.org", "curve25519-sha256", "ecdh-sha2-nistp256")
CIPHERS = ("aes128-ctr", "aes128-gcm@openssh.com", "aes256-ctr")


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran to its end: exit status (-1 if it had none), and what it wrote."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    def require(self) -> Completed:
        """Return itself if the command succeeded.

        :raises ChannelError: with what the command said.
        """
        if self.status != 0:
            output = (self.stderr or self.stdout).decode(errors="replace").strip()
            raise ChannelError(
                f"'{shlex.join(self.argv)}' ended with status {self.status}: {output}",
                hint="log in with --keep-on-failure and repeat it by hand",
            )
        return self

    @property
    def text(self) -> str:
        """Standard output as text, without the last line's end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class StrangerError(AccessError):
    """Another machine answers, or the machine has another host key than expected."""


class RefusedError(AccessError):
    """The machine does not accept our key."""


class Ssh:
    """A connection to one machine.

    :param sock: a connected stream: a TCP socket, or the channel of a jump.
    :param deadline: for the whole handshake.
    :raises ChannelError: it does not answer (yet).
    :raises AccessError: it is not who it must be, or does not let us in.
    :raises UserInputError: the login's own keys cannot be used.
    """

    def __init__(self, sock: Stream, login: Login, vitals: Vitals, deadline: Deadline) -> None:
        self._vitals = vitals
        self._transport: paramiko.Transport | None = None
        vitals.check()
        if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Send small packets at once (tcp(7)), as OpenSSH does. A command is several, and each one but the
            # first would wait for the answer to the one before, which the other side holds back for 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock)
        self._transport = transport
        self._forget = vitals.on_loss(transport.close)
        try:
            host_key = HostKey.parse(login.host_key)
            options = transport.get_security_options()
            options.kex = _first(KEX, options.kex)
            options.ciphers = _first(CIPHERS, options.ciphers)
            options.key_types = host_key.signatures  # of all the keys that it has, the one that we know
            transport.banner_timeout = deadline.seconds_left()
            transport.start_client(timeout=deadline.seconds_left())
            if not host_key.is_key(transport.get_remote_server_key()):
                raise StrangerError(
                    f"{vitals.name} answers with another host key ({host_key.kind}) than the known one",
                    hint="another server listens there; 'make clean-cache MAX_AGE=0' makes new keys",
                )
            transport.auth_timeout = deadline.seconds_left()
            _log_in(transport, login, vitals.name)
            transport.set_keepalive(KEEPALIVE)
        except (paramiko.SSHException, OSError, EOFError) as error:
            # paramiko says AuthenticationException also when the peer is gone, or silent.
            answers = transport.is_active() and not deadline.due()
            self.close()
            vitals.check()
            if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
                raise _incompatible(vitals.name, host_key, error) from error
            if isinstance(error, paramiko.AuthenticationException) and answers:
                raise RefusedError(
                    f"{vitals.name} does not let us in as {login.user} with the key {login.key}: {error}",
                    hint="was its image made with this cache's keys?",
                ) from error
            raise ChannelError(
                f"no SSH session with {vitals.name}: {_words(error)}",
                hint="check the console log: does its SSH server run?",
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection and every call on it."""
        self._forget()
        if self._transport is not None:
            self._transport.close()

    @contextlib.contextmanager
    def _translate_errors(self, doing: str, deadline: Deadline | None = None) -> Iterator[paramiko.Transport]:
        """A machine's death first, then whatever paramiko says, as our errors.

        :param deadline: ends the call also where paramiko would wait forever: for the answer to a request, for a peer
            that reads nothing. The session ends with it: such a peer will not come back.
        """
        self._vitals.check()
        if self._transport is None or not self._transport.is_active():
            self._vitals.check_broken()
            raise ChannelError(f"the SSH session with {self._vitals.name} is closed ({doing})")
        try:
            with contextlib.nullcontext() if deadline is None else _end_if_late(self._transport, deadline):
                yield self._transport
        except paramiko.ChannelException as error:  # the machine's own word
            raise ChannelError(f"{doing} on {self._vitals.name}: {error}") from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._vitals.check_broken()
            if deadline is not None and deadline.due():
                raise DeadlineError(
                    f"waited {deadline.seconds:g} s for {doing} on {self._vitals.name}: {_words(error)}",
                    hint="check its console log: does it still run?",
                ) from error
            raise ChannelError(f"{doing} on {self._vitals.name}: {_words(error)}") from error

    def run(self, argv: Sequence[str], *, seconds: float, stdin: bytes = b"", line: str = "") -> Completed:
        """Run a command to its end.

        :param argv: the command; quoted here, so no shell sees what is in it.
        :param seconds: the deadline for all of it.
        :param line: what the login shell is told in place of the command: some other way to run it.
        :raises ChannelError: the session broke. :raises DeadlineError: it did not end in time.
        """
        deadline = self._vitals.deadline(seconds)
        with self._translate_errors(f"'{argv[0]}'", deadline) as transport:
            channel = transport.open_session(timeout=deadline.seconds_left())
            try:
                channel.exec_command(line or shlex.join(argv))
                channel.settimeout(0)
                out, err = bytearray(), bytearray()
                offset = 0

                def has_ended() -> bool:
                    nonlocal offset
                    # Send what it takes and read what it says in turn: it may do neither without the other. One that
                    # ends without having read all tells by its status why.
                    with contextlib.suppress(OSError):
                        while offset < len(stdin) and channel.send_ready() and not channel.closed:
                            offset += channel.send(stdin[offset : offset + CHUNK])
                    if offset == len(stdin):
                        channel.shutdown_write()  # does nothing the second time
                    while channel.recv_ready():
                        out.extend(channel.recv(CHUNK))
                    while channel.recv_stderr_ready():
                        err.extend(channel.recv_stderr(CHUNK))
                    return bool(channel.closed or (channel.exit_status_ready() and channel.eof_received))

                poll_until(
                    has_ended,
                    deadline,
                    f"'{shlex.join(argv)}' on {self._vitals.name}",
                    check=self._check,
                    interval=0.002,
                )
                has_ended()  # what came between the last look and the end
                status = channel.recv_exit_status()
                if status == NO_STATUS and not self._outlives(channel):
                    self._check()
                return Completed(tuple(argv), status, bytes(out), bytes(err))
            finally:
                channel.close()

    def converse(self, argv: Sequence[str], *, seconds: float) -> Conversation:
        """Start a program that answers each line with a line, and stay connected to it.

        :param seconds: the deadline for its start.
        """
        deadline = self._vitals.deadline(seconds)
        with self._translate_errors(f"'{argv[0]}'", deadline) as transport:
            channel = transport.open_session(timeout=deadline.seconds_left())
            channel.exec_command(shlex.join(argv))
            return Conversation(channel, argv[0], self._vitals)

    def jump(self, host: str, port: int, *, seconds: float) -> paramiko.Channel:
        """A stream from the machine on to a TCP port that it can reach.

        :raises ChannelError: nothing answers there.
        """
        with self._translate_errors(f"a connection to {host}:{port}") as transport:
            return transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=seconds)

    def tunnel(self, host: str, port: int, *, seconds: float, on_end: Callable[[], None]) -> socket.socket:
        """Like ``jump``, as a real socket, for libraries that need one. It ends with the session.

        :param on_end: called once, from a thread, when the far side ended the stream. Not when the session did: that
            says nothing of the far side.
        """
        channel = self.jump(host, port, seconds=seconds)
        ours, theirs = socket.socketpair()

        ended_here = threading.Event()

        def copy(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                while data := read(CHUNK):
                    write(data)

        def end() -> None:
            # When one side is gone, so is the tunnel. Closing alone wakes no thread that reads, nor tells ``ours``.
            with contextlib.suppress(OSError):
                theirs.shutdown(socket.SHUT_RDWR)
            theirs.close()
            _close(channel)

        def outward() -> None:
            copy(theirs.recv, channel.sendall)
            ended_here.set()
            end()

        def homeward() -> None:
            copy(channel.recv, theirs.sendall)
            ended_there = not ended_here.is_set() and self._outlives(channel)
            end()
            if ended_there:
                on_end()

        for run in (outward, homeward):
            threading.Thread(target=run, name="tunnel", daemon=True).start()
        return ours

    def _outlives(self, channel: paramiko.Channel) -> bool:
        """Whether a channel that ended did so by itself: a session that ends takes its channels along first."""
        if self._transport is None or channel.eof_received:
            return bool(channel.eof_received)
        self._transport.join(SETTLE)
        return self._transport.is_active()

    def _check(self) -> None:
        self._vitals.check()
        if self._transport is None or not self._transport.is_active():
            self._vitals.check_broken()
            raise ChannelError(
                f"the SSH session with {self._vitals.name} broke", hint="see its console log for the reason"
            )


class Conversation:
    """A program on the machine that answers every request line with one reply line, in order."""

    def __init__(self, channel: paramiko.Channel, name: str, vitals: Vitals) -> None:
        self._channel = channel
        self._name = name
        self._vitals = vitals
        self._buffer = bytearray()

    def ask(self, *requests: str, seconds: float) -> list[str]:
        """Send the requests at once and return their replies.

        :raises ChannelError: the program or the session ended. :raises DeadlineError: a reply did not come in time.
        """
        deadline = self._vitals.deadline(seconds)
        replies: list[str] = []
        with self._translate_errors(seconds):
            self._channel.settimeout(max(deadline.seconds_left(), 0.01))
            self._channel.sendall("".join(f"{request}\n" for request in requests).encode())
            while len(replies) < len(requests):
                replies.append(self._line(deadline))
        return replies

    def line(self, *, seconds: float) -> str:
        """The next line that the program says of its own accord."""
        with self._translate_errors(seconds):
            return self._line(self._vitals.deadline(seconds))

    def follow(self) -> Iterator[str]:
        """The lines that the program says of its own accord, as they come, until it or the session ends."""
        self._channel.settimeout(None)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while data := self._channel.recv(CHUNK):
                self._buffer += data
                *lines, rest = bytes(self._buffer).split(b"\n")
                self._buffer = bytearray(rest)
                for line in lines:
                    yield line.decode(errors="replace")

    @contextlib.contextmanager
    def _translate_errors(self, seconds: float) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, paramiko.SSHException) as error:
            self._vitals.check_broken()
            if isinstance(error, TimeoutError):
                raise DeadlineError(f"waited {seconds:g} s for {self._name} on {self._vitals.name} to read") from error
            raise ChannelError(f"{self._name} on {self._vitals.name}: {_words(error)}") from error

    def _line(self, deadline: Deadline) -> str:
        while b"\n" not in self._buffer:

            def has_arrived() -> bool:
                return bool(self._channel.recv_ready() or self._channel.closed or self._channel.eof_received)

            poll_until(
                has_arrived,
                deadline,
                f"a reply of {self._name} on {self._vitals.name}",
                check=self._vitals.check,
                interval=0.001,
            )
            data = self._channel.recv(CHUNK) if self._channel.recv_ready() else b""
            if not data:
                complaint = (
                    self._channel.recv_stderr(CHUNK).decode(errors="replace")
                    if self._channel.recv_stderr_ready()
                    else ""
                )
                self._vitals.check_broken()
                raise ChannelError(
                    f"{self._name} on {self._vitals.name} ended before it had answered: {complaint.strip()}"
                )
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line.decode(errors="replace")

    def close(self) -> None:
        """End the program: its standard input ends, and it is to leave nothing behind."""
        with contextlib.suppress(SealproofError):  # it is lost, or cannot be woken
            self._vitals.check()  # asleep it reads nothing
        _close(self._channel)


@contextlib.contextmanager
def _end_if_late(transport: paramiko.Transport, deadline: Deadline) -> Iterator[None]:
    """End a session whose peer lets what is done here wait for longer than that."""
    end = threading.Event()
    threading.Thread(target=_close_late, args=(transport, deadline, end), name="leash", daemon=True).start()
    try:
        yield
    finally:
        end.set()


def _close_late(transport: paramiko.Transport, deadline: Deadline, end: threading.Event) -> None:
    """End a session that is late, unless what it was asked for has ended."""
    while not end.wait(deadline.seconds_left() + GRACE):
        if deadline.is_over():
            transport.close()
            return


def _first(preferred: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """What is known, what is wanted most first."""
    return (
        *(algorithm for algorithm in preferred if algorithm in available),
        *(algorithm for algorithm in available if algorithm not in preferred),
    )


def _log_in(transport: paramiko.Transport, login: Login, name: str) -> None:
    """Log in by whatever signs for us.

    :raises AccessError: nothing that we have is enough. :raises paramiko.SSHException: it refuses us, or is gone.
    """
    with signers(login) as ours:
        for last, key in enumerate(ours, 1 - len(ours)):
            try:
                more = transport.auth_publickey(login.user, key)
            except paramiko.BadAuthenticationType as error:
                raise AccessError(
                    f"{name} accepts no key for {login.user}, only: {', '.join(error.allowed_types)}",
                    hint="check PubkeyAuthentication, AuthenticationMethods and AllowUsers in its sshd_config",
                ) from error
            except paramiko.AuthenticationException:
                if last == 0 or not transport.is_active():
                    raise
                continue
            if more:
                raise AccessError(
                    f"{name} accepts our key, but demands more of {login.user}: {', '.join(more)}",
                    hint="accept a key alone for that user: AuthenticationMethods in its sshd_config",
                )
            return


def _incompatible(name: str, key: HostKey, error: Exception) -> AccessError:
    if "host key" in str(error):
        return StrangerError(
            f"{name} has no host key of type {key.kind}, the type of its known host key",
            hint="another server listens there, or the machine has new keys",
        )
    return AccessError(
        f"{name} and we have no algorithm in common: {error}",
        hint=f"allow these in its sshd_config, for instance: {KEX[1]}, {CIPHERS[2]}, hmac-sha2-256",
    )


def _close(channel: paramiko.Channel) -> None:
    """Close a channel; it does not matter that the session is gone already, or that its peer reads nothing.

    A guest that its QEMU has stopped reads nothing, and the keepalives of half an hour fill its connection.
    """
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        if (transport := channel.get_transport()) is not None:
            with _end_if_late(transport, Deadline(CLOSING)):
                channel.close()


def _words(error: Exception) -> str:
    """What an exception says; its name if it says nothing."""
    return str(error) or type(error).__name__
