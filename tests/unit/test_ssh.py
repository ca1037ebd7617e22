# SPDX-License-Identifier: GPL-2.0-or-later
"""The SSH client against a real server in this process, and against one that dies in the worst moment."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from common.errors import AccessError, ChannelError, DeadlineError, MachineLostError
from common.waiting import Deadline, poll_until
from host_setup.channels import ssh as module
from host_setup.channels import vitals as vitals_module
from host_setup.channels.ssh import Conversation, Login, Ssh
from host_setup.channels.vitals import Vitals
from tests.unit.ssh_server import Server, Wire, new_key

MIB = 1 << 20
AT_ONCE = 20.0  # seconds: "at once" on a busy machine; the calls themselves would wait ten times as long
LONG = 200.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


@pytest.fixture
def vitals() -> Vitals:
    return Vitals("the host")


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    wire = server.connect()
    yield wire
    wire.cut()


@pytest.fixture
def ssh(server: Server, wire: Wire, vitals: Vitals) -> Iterator[Ssh]:
    session = Ssh(wire.near, server.login, vitals, Deadline(LONG))
    yield session
    wire.cut()
    session.close()


def soon(then: Callable[[], object]) -> None:
    """Have something happen while the test waits in a call."""
    timer = threading.Timer(0.1, then)
    timer.daemon = True
    timer.start()


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals_module, "SETTLE", 0.01)


@pytest.fixture
def hurry() -> Iterator[None]:
    """The test ends soon, whatever its calls were allowed."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < AT_ONCE


# --- commands


def test_command_gives_both_streams_and_its_status(ssh: Ssh) -> None:
    done = ssh.run(["sh", "-c", "cat; echo oh >&2; exit 3"], seconds=LONG, stdin=b"in\n")
    assert (done.status, done.stdout, done.stderr, done.text) == (3, b"in\n", b"oh\n", "in")
    with pytest.raises(ChannelError, match="ended with status 3: oh"):
        done.require()


def test_no_shell_sees_what_is_in_an_argument(ssh: Ssh) -> None:
    words = ["$HOME", "two words", "it's", "", "a;b", "*"]
    done = ssh.run(["printf", "%s\\n", *words], seconds=LONG).require()
    assert done.text.split("\n") == words


def test_command_that_reads_its_input_finds_the_end_of_it(ssh: Ssh) -> None:
    assert ssh.run(["wc", "-c"], seconds=LONG).require().text.strip() == "0"


def test_command_killed_by_a_signal_has_no_status_and_did_not_succeed(ssh: Ssh) -> None:
    done = ssh.run(["sh", "-c", "kill -KILL $$"], seconds=LONG)
    assert done.status == -1
    with pytest.raises(ChannelError):
        done.require()


@pytest.mark.parametrize("where", ["", ">&2"])
def test_much_output_on_either_stream_arrives_whole(ssh: Ssh, where: str) -> None:
    done = ssh.run(["sh", "-c", f"head -c {5 * MIB} /dev/zero {where}; echo end"], seconds=LONG).require()
    assert len(done.stdout) + len(done.stderr) == 5 * MIB + 4
    assert done.stdout.endswith(b"end\n")


def test_much_output_on_both_streams_in_turns_arrives_whole(ssh: Ssh) -> None:
    script = f"for n in 1 2 3; do head -c {MIB} /dev/zero; head -c {MIB} /dev/zero >&2; done"
    done = ssh.run(["sh", "-c", script], seconds=LONG).require()
    assert (len(done.stdout), len(done.stderr)) == (3 * MIB, 3 * MIB)


def test_much_input_that_comes_back_at_once_is_no_deadlock(ssh: Ssh) -> None:
    content = os.urandom(5 * MIB)
    assert ssh.run(["cat"], seconds=LONG, stdin=content).require().stdout == content


def test_command_that_ends_without_reading_its_input_tells_why(ssh: Ssh) -> None:
    done = ssh.run(["sh", "-c", "echo no such folder >&2; exit 2"], seconds=LONG, stdin=b"x" * 5 * MIB)
    assert (done.status, done.stderr) == (2, b"no such folder\n")


@pytest.mark.usefixtures("hurry")
def test_command_without_an_end_meets_its_deadline_and_the_session_goes_on(
    ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.15)
    with pytest.raises(DeadlineError, match=r"waited 0\.15 s for 'sleep 600' on the host"):
        ssh.run(["sleep", "600"], seconds=0.15)
    time.sleep(module.GRACE + 0.2)  # a deadline that was met in order does not end the session afterwards
    assert ssh.run(["echo", "on"], seconds=LONG).text == "on"


# --- a peer that dies


@pytest.mark.usefixtures("hurry")
def test_loss_of_the_machine_ends_a_command_at_once(ssh: Ssh, vitals: Vitals) -> None:
    soon(lambda: vitals.note_loss("kernel panic"))
    with pytest.raises(MachineLostError, match="the host is lost: kernel panic"):
        ssh.run(["sleep", "600"], seconds=LONG)
    with pytest.raises(MachineLostError):
        ssh.run(["true"], seconds=LONG)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("ignored", ["login", "exec"])
def test_loss_of_the_machine_ends_an_unanswered_request_at_once(server: Server, vitals: Vitals, ignored: str) -> None:
    server.ignores = ignored
    soon(lambda: vitals.note_loss("kernel panic"))
    with pytest.raises(MachineLostError):
        Ssh(server.connect().near, server.login, vitals, Deadline(LONG)).run(["true"], seconds=LONG)


@pytest.mark.usefixtures("hurry")
def test_silence_in_a_command_meets_the_deadline(ssh: Ssh, wire: Wire) -> None:
    soon(wire.freeze)
    with pytest.raises(DeadlineError):
        ssh.run(["sh", "-c", "while echo on; do sleep 0.01; done"], seconds=0.3)


@pytest.mark.usefixtures("hurry")
def test_silence_before_a_command_meets_the_deadline(ssh: Ssh, wire: Wire) -> None:
    wire.freeze()
    with pytest.raises(DeadlineError, match=r"waited 0\.15 s for 'true' on the host"):
        ssh.run(["true"], seconds=0.15)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("start", [Ssh.run, Ssh.converse])
def test_request_without_an_answer_meets_the_deadline(
    server: Server, ssh: Ssh, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)
    server.ignores = "exec"
    with pytest.raises(DeadlineError):
        start(ssh, ["true"], seconds=0.15)


@pytest.mark.usefixtures("hurry")
def test_peer_that_stops_reading_meets_the_deadline(ssh: Ssh, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)
    soon(wire.freeze)
    with pytest.raises(DeadlineError):
        ssh.run(["sh", "-c", "sleep 0.2; cat"], seconds=0.4, stdin=b"x" * 20 * MIB)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("call", [["sleep", "600"], ["cat"]])
def test_broken_connection_ends_a_command_at_once_as_a_fault_of_the_channel(
    ssh: Ssh, wire: Wire, call: list[str]
) -> None:
    soon(wire.cut)
    with pytest.raises(ChannelError) as caught:
        ssh.run(["sh", "-c", f"sleep 1; {' '.join(call)}"], seconds=LONG)
    assert not caught.value.message.endswith(": ")
    with pytest.raises(ChannelError, match="is closed"):
        ssh.run(["true"], seconds=LONG)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    "call", [Ssh.run, lambda ssh, argv, seconds: ssh.converse(argv, seconds=seconds).line(seconds=seconds)]
)
def test_break_that_comes_before_the_news_of_the_loss_is_told_as_the_loss(
    ssh: Ssh, wire: Wire, vitals: Vitals, call: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals_module, "SETTLE", LONG)

    def die() -> None:
        wire.cut()
        time.sleep(0.1)
        vitals.note_loss("kernel panic")

    soon(die)
    with pytest.raises(MachineLostError, match="kernel panic"):
        call(ssh, ["sleep", "600"], seconds=LONG)


def test_closed_session_says_so(ssh: Ssh, vitals: Vitals) -> None:
    ssh.close()
    with pytest.raises(ChannelError, match="is closed"):
        ssh.run(["true"], seconds=LONG)
    ssh.close()
    vitals.note_loss("later")  # and nothing of the session is left to be ended


# --- who is there


def test_other_host_key_is_refused(server: Server, wire: Wire, vitals: Vitals, tmp_path: Path) -> None:
    other = new_key(tmp_path / "other")
    login = Login("root", server.login.key, f"ssh-ed25519 {other.get_base64()} comment")
    with pytest.raises(AccessError, match="another host key"):
        Ssh(wire.near, login, vitals, Deadline(LONG))


def test_comment_of_a_host_key_does_not_count(server: Server, wire: Wire, vitals: Vitals) -> None:
    login = Login("root", server.login.key, f"{server.login.host_key} root@build")
    Ssh(wire.near, login, vitals, Deadline(LONG)).close()


def test_login_that_is_refused_is_no_matter_of_trying_again(
    server: Server, wire: Wire, vitals: Vitals, tmp_path: Path
) -> None:
    new_key(tmp_path / "other")
    with pytest.raises(AccessError, match="the host does not let us in"):
        Ssh(wire.near, Login("root", tmp_path / "other", server.login.host_key), vitals, Deadline(LONG))


@pytest.mark.usefixtures("hurry")
def test_slow_login_is_no_refusal(server: Server, wire: Wire, vitals: Vitals) -> None:
    server.ignores = "login"
    with pytest.raises(ChannelError):
        Ssh(wire.near, server.login, vitals, Deadline(0.2))


@pytest.mark.usefixtures("hurry")
def test_connection_that_breaks_while_logging_in_is_no_refusal(server: Server, wire: Wire, vitals: Vitals) -> None:
    server.ignores = "login"
    soon(wire.cut)
    with pytest.raises(ChannelError):
        Ssh(wire.near, server.login, vitals, Deadline(LONG))


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_stranger_that_ends_the_stream_is_a_fault_of_the_channel(vitals: Vitals, server: Server, says: bytes) -> None:
    near, far = socket.socketpair()
    far.sendall(says)
    far.close()
    with pytest.raises(ChannelError) as caught:
        Ssh(near, server.login, vitals, Deadline(LONG))
    assert not caught.value.message.endswith(": ")


@pytest.mark.usefixtures("hurry")
def test_stranger_that_says_nothing_meets_the_deadline(vitals: Vitals, server: Server) -> None:
    near, _far = socket.socketpair()
    with pytest.raises(ChannelError):
        Ssh(near, server.login, vitals, Deadline(0.2))


def test_lost_machine_is_not_even_asked(server: Server, wire: Wire, vitals: Vitals) -> None:
    vitals.note_loss("panic")
    with pytest.raises(MachineLostError):
        Ssh(wire.near, server.login, vitals, Deadline(LONG))


# --- conversations

ECHO = ["sh", "-c", 'while read -r line; do echo "<$line>"; done']


@pytest.fixture
def talk(ssh: Ssh) -> Iterator[Conversation]:
    conversation = ssh.converse(ECHO, seconds=LONG)
    yield conversation
    conversation.close()


def test_each_request_gets_its_reply_in_order(talk: Conversation) -> None:
    assert talk.ask("one", seconds=LONG) == ["<one>"]
    assert talk.ask("two", "three", seconds=LONG) == ["<two>", "<three>"]
    assert talk.ask(seconds=LONG) == []


def test_many_requests_at_once(talk: Conversation) -> None:
    requests = [f"{n} {'x' * 300}" for n in range(1000)]
    assert talk.ask(*requests, seconds=LONG) == [f"<{request}>" for request in requests]


def test_long_line_arrives_whole(ssh: Ssh) -> None:
    talk = ssh.converse(["sh", "-c", f"read -r _; head -c {3 * MIB} /dev/zero | tr '\\0' y; echo"], seconds=LONG)
    assert talk.ask("go", seconds=LONG) == ["y" * 3 * MIB]


def test_program_may_speak_of_its_own_accord(ssh: Ssh) -> None:
    talk = ssh.converse(["sh", "-c", "echo ready; echo steady; read -r x; echo $x"], seconds=LONG)
    assert talk.line(seconds=LONG) == "ready"
    assert talk.line(seconds=LONG) == "steady"
    assert talk.ask("go", seconds=LONG) == ["go"]


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("last", ["", "printf half"])
def test_program_that_ends_in_the_middle_is_told_with_its_last_words(ssh: Ssh, last: str) -> None:
    talk = ssh.converse(["sh", "-c", f"read -r a; echo $a; echo sorry >&2; {last}"], seconds=LONG)
    with pytest.raises(ChannelError, match="sh on the host ended before it had answered: sorry"):
        talk.ask("one", "two", seconds=LONG)
    with pytest.raises(ChannelError):
        talk.ask("three", seconds=LONG)


@pytest.mark.usefixtures("hurry")
def test_reply_that_does_not_come_meets_the_deadline(ssh: Ssh) -> None:
    talk = ssh.converse(["sleep", "600"], seconds=LONG)
    with pytest.raises(DeadlineError, match="a reply of sleep on the host"):
        talk.ask("hello", seconds=0.15)


@pytest.mark.usefixtures("hurry")
def test_requests_that_nobody_reads_meet_the_deadline(ssh: Ssh) -> None:
    talk = ssh.converse(["sleep", "600"], seconds=LONG)
    with pytest.raises(DeadlineError):
        talk.ask("x" * 5 * MIB, seconds=0.2)


@pytest.mark.usefixtures("hurry")
def test_loss_of_the_machine_ends_a_conversation_at_once(talk: Conversation, vitals: Vitals, wire: Wire) -> None:
    wire.freeze()
    soon(lambda: vitals.note_loss("stalled"))
    with pytest.raises(MachineLostError):
        talk.ask("hello", seconds=LONG)


@pytest.mark.usefixtures("hurry")
def test_broken_connection_ends_a_conversation_at_once(talk: Conversation, wire: Wire) -> None:
    soon(wire.cut)
    with pytest.raises(ChannelError):
        while True:
            talk.ask("hello", seconds=LONG)


def test_end_of_a_conversation_whose_session_is_gone_is_no_fault(talk: Conversation, wire: Wire) -> None:
    wire.cut()
    poll_until(lambda: not talk._channel.get_transport().is_active(), Deadline(LONG), "the session's end")
    talk.close()


@pytest.mark.usefixtures("hurry")
def test_end_of_a_conversation_with_a_peer_that_reads_nothing_is_no_fault(
    talk: Conversation, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSING", 0.2)
    monkeypatch.setattr(module, "GRACE", 0.1)
    wire.freeze()
    wire.near.settimeout(0)
    with pytest.raises(BlockingIOError):  # a connection that keepalives have filled
        while True:
            wire.near.send(b"x" * module.CHUNK)
    talk.close()


def test_machine_that_sleeps_is_woken_for_the_end_of_a_conversation(talk: Conversation, vitals: Vitals) -> None:
    woken: list[bool] = []
    vitals.asleep(lambda: woken.append(True))
    talk.close()
    assert woken


def test_end_of_a_conversation_ends_the_programs_input(ssh: Ssh, server: Server) -> None:
    ssh.converse(["cat"], seconds=LONG).close()
    poll_until(lambda: server.processes and server.processes[-1].poll() is not None, Deadline(LONG), "its end")


# --- streams through the machine


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(AT_ONCE)
        yield server


def accept(listener: socket.socket) -> socket.socket:
    """The stream's far end; the first connection was the server's own look whether anybody is there."""
    listener.accept()[0].close()
    far, _ = listener.accept()
    far.settimeout(AT_ONCE)
    return far


def receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def test_tunnel_carries_both_ways(ssh: Ssh, listener: socket.socket) -> None:
    ends: list[int] = []
    ours = ssh.tunnel("127.0.0.1", listener.getsockname()[1], seconds=LONG, on_end=lambda: ends.append(1))
    ours.settimeout(AT_ONCE)
    far = accept(listener)
    there, back = os.urandom(MIB), os.urandom(MIB)
    threading.Thread(target=ours.sendall, args=(there,), daemon=True).start()
    assert receive(far, MIB) == there
    threading.Thread(target=far.sendall, args=(back,), daemon=True).start()
    assert receive(ours, MIB) == back
    assert not ends


def test_far_end_of_a_tunnel_is_told_once_and_ends_ours(ssh: Ssh, listener: socket.socket) -> None:
    ends: list[int] = []
    ours = ssh.tunnel("127.0.0.1", listener.getsockname()[1], seconds=LONG, on_end=lambda: ends.append(1))
    ours.settimeout(AT_ONCE)
    accept(listener).close()
    assert ours.recv(1) == b""
    poll_until(lambda: ends, Deadline(AT_ONCE), "the end to be told")
    ours.close()
    assert ends == [1]


def test_our_end_of_a_tunnel_ends_the_far_one_and_is_no_news(ssh: Ssh, listener: socket.socket) -> None:
    ends: list[int] = []
    ours = ssh.tunnel("127.0.0.1", listener.getsockname()[1], seconds=LONG, on_end=lambda: ends.append(1))
    far = accept(listener)
    ours.close()
    assert far.recv(1) == b""
    ssh.run(["true"], seconds=LONG)
    assert not ends


@pytest.mark.parametrize("how", ["session", "connection", "machine"])
def test_tunnel_ends_with_session_and_machine_which_is_not_its_far_end(
    ssh: Ssh, wire: Wire, vitals: Vitals, listener: socket.socket, how: str
) -> None:
    ends: list[int] = []
    ours = ssh.tunnel("127.0.0.1", listener.getsockname()[1], seconds=LONG, on_end=lambda: ends.append(1))
    carriers = [thread for thread in threading.enumerate() if thread.name == "tunnel"]
    ours.settimeout(AT_ONCE)
    far = accept(listener)
    if how == "session":
        ssh.close()
    elif how == "connection":
        wire.cut()
    else:
        vitals.note_loss("panic")
    assert ours.recv(1) == b""
    assert carriers
    for carrier in carriers:
        carrier.join(AT_ONCE)
    assert not ends
    far.close()


def test_stream_to_nobody_is_a_fault_of_the_channel(ssh: Ssh, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ChannelError, match=f"a connection to 127.0.0.1:{port} on the host"):
        ssh.jump("127.0.0.1", port, seconds=LONG)


@pytest.mark.usefixtures("hurry")
def test_silence_when_a_stream_is_asked_for_is_a_fault_of_the_channel_that_may_be_tried_again(
    ssh: Ssh, wire: Wire
) -> None:
    wire.freeze()
    with pytest.raises(ChannelError):
        ssh.jump("127.0.0.1", 1, seconds=0.15)


def test_session_within_a_session_reaches_the_machine_behind(
    ssh: Ssh, vitals: Vitals, listener: socket.socket, tmp_path: Path
) -> None:
    (tmp_path / "guest").mkdir()
    guest = Server(tmp_path / "guest")
    stream = ssh.jump("127.0.0.1", listener.getsockname()[1], seconds=LONG)
    transport = paramiko.Transport(accept(listener))
    transport.add_server_key(guest.host_key)
    transport.start_server(server=guest, event=threading.Event())
    inner = Ssh(stream, guest.login, vitals, Deadline(LONG))
    assert inner.run(["echo", "guest"], seconds=LONG).text == "guest"
    inner.close()
    transport.close()
    guest.close()


def test_session_over_tcp_sends_small_packets_at_once(server: Server, vitals: Vitals, listener: socket.socket) -> None:
    near = socket.create_connection(listener.getsockname())
    transport = paramiko.Transport(listener.accept()[0])
    transport.add_server_key(server.host_key)
    transport.start_server(server=server, event=threading.Event())
    session = Ssh(near, server.login, vitals, Deadline(LONG))
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    session.close()
    transport.close()
