# SPDX-License-Identifier: GPL-2.0-or-later
"""The fleet without machines: a stand-in for pytest delivers parts, Avocado and its process spawner are real."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cli import verify
from common.errors import UserInputError
from common.paths import PROJECT
from fleet import job, machines, runner
from fleet.__main__ import main
from fleet.groups import Group, claims_of, groups
from fleet.resolver import SealproofResolver, runnable
from fleet.speedup import forecast, table
from signoff.contract import Kind
from signoff.contract_files import load
from signoff.evidence import read
from signoff.keys import fingerprint, own_key
from signoff.verdict import Status
from tests.unit.fleet_samples import FIRST, KEY, SECOND, THIRD, WELL, part
from verifier import __main__ as verifier

CLAIMS = load(PROJECT / "tests_e2e" / "contract").claims
HEALTH_FILE = "tests_e2e/health/test_health.py"


@pytest.fixture(scope="module")
def every() -> list[Group]:
    return groups("tests_e2e --mode plain --group-size 10")


def test_groups_hold_each_claim_once_and_all_look_after_their_host(every: list[Group]) -> None:
    claims = Counter(claims_of(every))
    assert set(claims.values()) == {1}
    assert set(claims) == {claim.id for claim in CLAIMS if claim.kind is not Kind.HEALTH}
    assert {group.health for group in every} == {(HEALTH_FILE,)}
    assert {group.options for group in every} == {("--mode", "plain")}


def test_long_files_are_cut_into_slices(every: list[Group]) -> None:
    assert max(len(group.claims) for group in every) <= 10
    slices = [group for group in every if group.file.endswith("test_user_copy_in.py")]
    assert [group.slice for group in slices] == [(1, 3), (2, 3), (3, 3)]
    assert slices[0].name == "tests_e2e/attacks/test_user_copy_in.py:1of3"
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *slices[1].arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,  # nothing was tried, so it is not 0
    ).stdout
    for claim in slices[1].claims:
        assert f"::test_{claim}\n" in collected
    assert collected.count("test_user_copy_in.py::") == len(slices[1].claims)
    assert collected.count("test_health.py::") == 2


def test_names_of_groups_mean_nothing_to_a_shell(every: list[Group]) -> None:
    assert all(set(group.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_/.:") for group in every)
    assert len({group.name for group in every}) == len(every)


def test_k_leaves_out_the_health_of_the_host_as_pytest_does() -> None:
    (group,) = groups("tests_e2e/attacks/test_process_memory.py -k 'process_vm_readv and not shared'")
    assert group.health == ()
    assert group.arguments == [
        "tests_e2e/attacks/test_process_memory.py",
        "-k",
        "process_vm_readv and not shared",
    ]
    assert all("process_vm_readv" in claim for claim in group.claims)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("tests_e2e -k no_such_claim_at_all", "no test is selected"),
        ("tests_e2e --no-such-option", "unrecognized arguments"),
        ("tests_e2e/attacks/test_pins.py::test_x", "pytest does not accept"),
        ("tests_e2e -k 'open", "No closing quotation"),
        ("tests_e2e --group-size -1", "number of claims"),
    ],
)
def test_words_that_choose_nothing_are_refused(words: str, error: str) -> None:
    with pytest.raises(UserInputError, match=error):
        groups(words)


def test_avocado_lists_what_a_reference_means() -> None:
    avocado = [sys.executable, "-m", "avocado", "list"]
    shown = subprocess.run(
        [*avocado, "sealproof:tests_e2e/attacks/test_process_memory.py tests_e2e/health"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.split() == ["sealproof", "tests_e2e/attacks/test_process_memory.py"]
    wrong = subprocess.run([*avocado, "sealproof:nowhere"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert wrong.returncode != 0 or "nowhere" in wrong.stdout + wrong.stderr


def test_the_resolver_leaves_other_references_alone() -> None:
    assert SealproofResolver().resolve("/bin/true").result.name == "NOTFOUND"
    corrupt = SealproofResolver().resolve("sealproof:nowhere")
    assert corrupt.result.name == "CORRUPT"
    assert "nowhere" in corrupt.info


# --- the runner ---


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, words: str) -> None:
    """Instead of pytest a shell command runs, in which $REPORTS is the folder for runs."""

    def command(arguments: list[str], reports: Path) -> list[str]:
        return ["sh", "-c", f"REPORTS={reports}; mkdir -p $REPORTS; cd {folder}; {words}", *arguments]

    monkeypatch.setattr(runner, "command_line", command)


def deliver(messages: list[dict[str, Any]], into: Path) -> Path:
    into.mkdir()
    chunks = b"".join(message["log"] for message in messages if message.get("type") == "file")
    (into / "packed.tar.gz").write_bytes(chunks)
    return job.unpack(into / "packed.tar.gz", into)


RESULTS = [
    ({FIRST: Status.PASS, **WELL}, "pass", None),
    ({FIRST: Status.PASS, SECOND: Status.SKIP, **WELL}, "pass", None),
    ({FIRST: Status.SKIP}, "skip", "SKIP"),
    ({FIRST: Status.ERROR, SECOND: Status.FAIL, **WELL}, "fail", f"FAIL: {SECOND}"),
    ({FIRST: Status.ERROR, SECOND: Status.PASS, **WELL}, "error", f"ERROR: {FIRST}"),
    ({FIRST: Status.MISS, **WELL}, "error", f"MISS: {FIRST}"),
]


@pytest.mark.parametrize(("verdicts", "result", "why"), RESULTS)
def test_the_runner_delivers_the_part_and_says_how_its_claims_fared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: dict[str, Status], result: str, why: str | None
) -> None:
    part_folder = part(tmp_path / "made", 1, "one", verdicts)
    link = f"ln -s {part_folder.name} $REPORTS/latest"
    stand_in(monkeypatch, tmp_path, f"echo out; echo err >&2; cp -r {part_folder} $REPORTS; {link}")
    messages = list(runner.SealproofRunner().run(runnable(Group("a.py", (), (1, 1), (), ()))))
    assert messages[0]["status"] == "started"
    assert (messages[-1]["status"], messages[-1]["result"]) == ("finished", result)
    assert (messages[-1].get("fail_reason") or None) == why
    assert any(message.get("log") == b"out\nerr\n" for message in messages)
    assert all(len(message.get("log", b"")) <= runner.CHUNK for message in messages)
    folder = deliver(messages, tmp_path / "got")
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
        path.name: path.read_bytes() for path in part_folder.rglob("*") if path.is_file()
    }


def test_a_run_that_never_came_to_be_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, "exit 2")
    messages = list(runner.SealproofRunner().run(runnable(Group("a.py", (), (1, 1), (), ()))))
    assert messages[-1]["result"] == "error"
    assert not [message for message in messages if message.get("type") == "file"]


def test_a_runner_that_is_given_up_ends_its_pytest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    run = runner.SealproofRunner().run(runnable(Group("a.py", (), (1, 1), (), ())))
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        next(run)
        assert time.monotonic() < deadline
    run.close()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_machine_is_called_by_its_name_and_by_where_it_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.socket, "gethostname", lambda: "node7")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert runner.machine_name() == "node7"
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.7 22")
    assert runner.machine_name() == "node7 (10.0.0.7:22)"


# --- parts out of jobs ---


def pack(path: Path, *members: tuple[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            member.size = 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"x") if member.size else None)


@pytest.mark.parametrize(
    "member",
    [
        ("/etc/x", tarfile.REGTYPE),
        ("run/../../x", tarfile.REGTYPE),
        ("run/x", tarfile.SYMTYPE),
        ("run/x", tarfile.LNKTYPE),
        ("run/x", tarfile.FIFOTYPE),
        (".", tarfile.DIRTYPE),
        ("", tarfile.DIRTYPE),
    ],
)
def test_a_part_that_would_write_elsewhere_is_refused(tmp_path: Path, member: tuple[str, bytes]) -> None:
    pack(tmp_path / "p.tar.gz", member)
    with pytest.raises(UserInputError, match="which does not belong in a part"):
        job.unpack(tmp_path / "p.tar.gz", tmp_path / "into")


def test_a_part_that_changed_on_its_way_is_refused_in_whatever_way_it_was_packed(tmp_path: Path) -> None:
    packed = tmp_path / "p.tar"
    for mode in ("w:gz", "w:bz2", "w:xz"):
        with tarfile.open(packed, mode) as archive:
            for number in range(50):
                archive.addfile(tarfile.TarInfo(f"run/{number}"))
        whole = packed.read_bytes()
        for place in range(len(whole)):
            packed.write_bytes(bytes((*whole[:place], whole[place] ^ 0xFF, *whole[place + 1 :])))
            with suppress(UserInputError):  # some bytes say nothing
                job.unpack(packed, tmp_path / "into")


def test_a_part_is_a_folder(tmp_path: Path) -> None:
    pack(tmp_path / "p.tar.gz", ("run", tarfile.REGTYPE))
    with pytest.raises(UserInputError, match="a part is a single folder"):
        job.unpack(tmp_path / "p.tar.gz", tmp_path / "into")


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", "null", '{"tests": 3}', '{"tests": [3]}', '{"tests": [{}]}', "[" * 100_000),
        *('{"tests": [{"logdir": 3, "time_elapsed": 1}]}', '{"tests": [{"logdir": "x", "time_elapsed": "long"}]}'),
    ],
)
def test_what_is_no_job_of_avocados_is_told_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserInputError, match="has no Avocado results"):
        job.collect(tmp_path, tmp_path / "into")


def test_a_part_cut_off_on_its_way_is_refused(tmp_path: Path) -> None:
    pack(tmp_path / "p.tar.gz", *((f"run/{number}", tarfile.REGTYPE) for number in range(50)))
    content = (tmp_path / "p.tar.gz").read_bytes()
    (tmp_path / "p.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserInputError, match="is damaged"):
        job.unpack(tmp_path / "p.tar.gz", tmp_path / "into")


def test_a_folder_that_is_no_job_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no Avocado results"):
        job.collect(tmp_path, tmp_path / "into")


GROUPS = [Group("a.py", (), (1, 1), (FIRST,), ()), Group("b.py", (), (1, 1), (SECOND, THIRD), ())]


def fake_avocado(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deliveries: Sequence[dict[int, dict[str, Status]]]
) -> list[tuple[list[str], job.Workers]]:
    """Each job delivers the next of ``deliveries``: parts by number and verdicts."""
    asked_for = []

    def avocado(todo: list[Group], workers: job.Workers, folder: Path, _: object) -> Path:
        asked_for.append(([group.file for group in todo], workers))
        folder.mkdir(parents=True)
        tests = []
        for number, verdicts in deliveries[len(asked_for) - 1].items():
            logdir = folder / "test-results" / str(number)
            logdir.mkdir(parents=True)
            part_folder = part(tmp_path / "made", number, "one", verdicts)
            with tarfile.open(logdir / runner.PART, "w:gz") as archive:
                archive.add(part_folder, arcname=part_folder.name)
            tests.append({"logdir": str(logdir), "time_elapsed": 2.0})
        (folder / "results.json").write_text(json.dumps({"tests": tests, "time": 5.0}))
        return folder / "results.json"

    monkeypatch.setattr(job, "_avocado", avocado)
    return asked_for


def test_what_is_lost_is_tried_again_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries = [{1: {FIRST: Status.PASS, **WELL}}, {2: {SECOND: Status.PASS, THIRD: Status.FAIL, **WELL}}]
    asked_for = fake_avocado(monkeypatch, tmp_path, deliveries)
    lines: list[str] = []
    outcome = job.run(GROUPS, job.Workers(2), tmp_path / "jobs", tries=3, say=lines.append)
    assert [files for files, _ in asked_for] == [["a.py", "b.py"], ["b.py"]]
    assert outcome.lost == []
    assert len(outcome.parts) == 2
    assert outcome.seconds == [5.0, 5.0]
    assert lines == ["2 claims are lost: trying 1 groups again"]


def test_what_is_lost_for_good_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_avocado(monkeypatch, tmp_path, [{1: {FIRST: Status.PASS, **WELL}}, {}, {}])
    outcome = job.run(GROUPS, job.Workers(2), tmp_path / "jobs", tries=3, say=lambda _: None)
    assert outcome.lost == [SECOND, THIRD]
    assert len(outcome.jobs) == 3


def test_a_machine_that_does_not_answer_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, there = machines.parse("root@gone"), machines.parse("there:2222")
    asked_for = fake_avocado(
        monkeypatch, tmp_path, [{1: {FIRST: Status.PASS, SECOND: Status.PASS, THIRD: Status.PASS}}]
    )
    monkeypatch.setattr(job, "problem", lambda machine, _: "no route" if machine == lost else "")
    workers = job.Workers(1, (lost, there), machines.Access(Path("/x")))
    outcome = job.run(GROUPS, workers, tmp_path / "jobs", tries=1, say=lambda _: None)
    assert asked_for[0][1].machines == (there,)
    assert outcome.absent == {"root@gone:22": "no route"}
    monkeypatch.setattr(job, "problem", lambda *_: "no route")
    with pytest.raises(UserInputError, match=r"no machine can be used\nroot@gone:22: no route\nroot@there:2222"):
        job.run(GROUPS, workers, tmp_path / "again", tries=1, say=lambda _: None)


# --- the commands ---


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_merge_and_verify_by_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first_part = part(home / "made", 1, "one", {FIRST: Status.PASS, **WELL})
    two = part(home / "made", 2, "two", {SECOND: Status.PASS, **WELL})
    assert (
        main(["merge", str(first_part), str(two), "--reports", str(home / "reports")]) == 2
    )  # the third claim is MISS
    shown = capsys.readouterr().out
    assert "one: 3 PASS in 1 part" in shown
    assert f"a part is signed by the key {fingerprint(KEY.public_key())}: a reader names it as well" in shown
    run = (home / "reports" / "latest").resolve()
    assert json.loads((run / "record.json").read_text())["commit"] == "0" * 40  # of the parts, not of this checkout
    contract = ["--contract", str(run / "contract")]
    assert verify.main([str(run), *contract]) == 2
    assert "machine         one, two" in capsys.readouterr().out
    assert verify.main([str(run)]) == 3  # of another contract than the checkout's
    key = fingerprint(own_key(home / "config" / "sealproof").public_key())
    assert verify.main([str(run), *contract, "--key", key]) == 2
    assert verifier.main([str(run), *contract, "--key", "0" * 64]) == 3
    (run / "junit.xml").write_text("")
    assert verify.main([str(run), *contract]) == 3
    assert "junit.xml was changed after it was signed" in capsys.readouterr().out
    assert verify.main([str(home / "nothing")]) == 2


MACHINE = """
[machine.one]
kind = "ssh"
address = "root@one"
host_key = "ssh-ed25519 AAAA"
key = "/k"
signs_with = "{key}"
"""


def test_merge_takes_parts_by_the_keys_of_the_inventory_alone(home: Path) -> None:
    remote_part = part(home / "made", 1, "one", {FIRST: Status.PASS, **WELL})
    own = own_key(home / "config" / "sealproof")
    here = part(home / "made", 2, socket.gethostname(), {SECOND: Status.PASS, **WELL}, key=own)
    words = ["merge", str(remote_part), str(here), "--reports", str(home / "reports")]
    file = home / "config" / "sealproof" / "inventory.toml"
    file.write_text(MACHINE.format(key=fingerprint(KEY.public_key())))
    assert main(words) == 2
    file.write_text(MACHINE.format(key="0" * 64))
    with pytest.raises(UserInputError, match="one's is 0000"):
        main(words)
    (home / "empty.toml").write_text('[machine.here]\nkind = "emulated"\n')
    assert main([*words, "--inventory", str(home / "empty.toml")]) == 2


def test_merge_takes_what_a_job_delivered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_avocado(monkeypatch, home, [{1: {FIRST: Status.PASS, SECOND: Status.PASS, THIRD: Status.PASS, **WELL}}])
    done = job.run(GROUPS, job.Workers(), home / "jobs", tries=1, say=lambda _: None)
    shutil.move(home / "jobs" / "job-1", home / "moved")
    assert done.jobs == [home / "jobs" / "job-1"]
    main(["merge", str(home / "moved"), "--reports", str(home / "reports")])
    report = read((home / "reports" / "latest").resolve())
    assert [delivered_part.seconds for delivered_part in report.fleet.parts] == [2.0]


def test_parts_that_do_not_go_together_are_no_proof(home: Path) -> None:
    first_part = part(home / "made", 1, "one", {FIRST: Status.PASS, **WELL})
    two = part(home / "made", 2, "two", {SECOND: Status.PASS, **WELL}, series="another")
    with pytest.raises(UserInputError, match="next: only parts of one sign-off"):
        main(["merge", str(first_part), str(two), "--reports", str(home / "reports")])


# --- machines ---


@pytest.mark.parametrize(
    ("words", "user", "host", "port"),
    [
        ("node7", "root", "node7", 22),
        ("me@node7.lan:2222", "me", "node7.lan", 2222),
        ("127.0.0.1:9", "root", "127.0.0.1", 9),
        ("[::1]:9", "root", "::1", 9),
        ("me@[fe80::1%eth0]", "me", "fe80::1%eth0", 22),
    ],
)
def test_a_machine_is_user_host_and_port(words: str, user: str, host: str, port: int) -> None:
    result = machines.parse(words)
    assert result == machines.SshTarget(user, host, port)
    assert machines.parse(str(result)) == result


@pytest.mark.parametrize(
    "words",
    [
        *("", "a b", "x;reboot", "host:port", "-oProxyCommand=x@h", "h:0", "h:65536", "h:٣"),
        *("::1", "[node]", "[]", "[::1", "[::1;x]", "\udcff"),
    ],
)
def test_what_is_no_machine_is_refused(words: str) -> None:
    with pytest.raises(UserInputError, match="does not name a machine") as caught:
        machines.parse(words)
    assert ("brackets" in caught.value.hint) is (words.count(":") > 1)


def test_a_machine_that_is_named_twice_is_a_slip_and_no_second_worker(home: Path) -> None:
    with pytest.raises(UserInputError, match=r"root@node:22 is named twice"):
        main(
            [
                "run",
                "--dry-run",
                "--reports",
                str(home),
                *("--machine=other", "--machine=node", "--machine=root@node:22"),
            ]
        )


@pytest.mark.parametrize("words", ["run --workers", "run --tries", "speedup . --machines"])
def test_a_number_that_no_fleet_has_is_a_wrong_option(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("0", "-1", "1.5", "nan", "9" * 30, ""):
        with pytest.raises(SystemExit) as caught:
            main(f"{words}={number}".split())
        assert caught.value.code == 2
        assert "is not a whole number from 1 to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ("", ""),
        ("commit 1234, contract 5678", "it has another sealproof in /x: commit 1234, contract 5678; here: commit"),
        ("hello", "it has another sealproof in /x: hello; here"),
    ],
)
def test_a_machine_with_another_checkout_is_noticed_before_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, message: str
) -> None:
    """What it does could not be merged."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho Welcome\necho '{theirs or machines.checkout(PROJECT)}'\n")
    ssh.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    parsed = machines.problem(machines.parse("me@node"), machines.Access(Path("/x")))
    assert parsed.startswith(message)
    assert bool(parsed) == bool(message)


def test_a_checkout_is_its_commit_and_its_contract(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "tests_e2e", tmp_path / "tests_e2e", ignore=lambda *_: ["support", "attacks"])
    before = machines.checkout(tmp_path)
    with (tmp_path / "tests_e2e" / "contract" / "health-health.toml").open("a") as contract:
        contract.write("\n")
    assert machines.checkout(tmp_path) != before
    code = subprocess.run(
        ["sh", "-c", machines._SAY], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    assert code.stdout.strip() == machines.checkout(PROJECT)


def test_the_remote_spawner_gets_slots_and_a_way_back(tmp_path: Path) -> None:
    access = machines.Access(Path("/srv/seal proof"), Path("/k"), Path("/h"))
    machines.write_configuration(
        tmp_path / "avocado.conf",
        [machines.parse("node7"), machines.parse("node8")],
        access,
        machines.StatusPorts(server=4711, mouth=4712),
    )
    text = (tmp_path / "avocado.conf").read_text()
    assert "setup_hook = cd '/srv/seal proof' && export PATH='/srv/seal proof/.venv/bin':$PATH" in text
    assert "status_server_listen = 127.0.0.1:4711" in text
    assert "status_server_uri = 127.0.0.1:4712" in text
    slot = json.loads((tmp_path / "slot-1.json").read_text())
    assert (slot["host"], slot["port"], slot["username"]) == ("node8", 22, "root")
    assert "-R 127.0.0.1:4712:127.0.0.1:4711" in slot["extra_cmdline"]
    assert "StrictHostKeyChecking=yes" in slot["extra_cmdline"]


# --- the speed-up ---


def test_one_machine_takes_the_sum_and_many_the_longest() -> None:
    seconds = [3.0, 1.0, 2.0, 6.0]
    assert forecast(seconds, 1).seconds == 12.0
    assert forecast(seconds, 1).speedup == 1.0
    assert forecast(seconds, 100).seconds == forecast(seconds, 100).floor == 6.0
    assert forecast(seconds, 100).speedup == 2.0


def test_two_machines_take_the_groups_in_their_order() -> None:
    # 3 | 1 2 6: the second is free at 1, takes 2, both are free at 3, and 6 begins there.
    result = forecast([3.0, 1.0, 2.0, 6.0], 2)
    assert (result.seconds, result.floor) == (9.0, 6.0)


def test_the_table_shows_its_formula() -> None:
    lines = table([1.0, 1.0], [1, 2])
    assert "S(n) = T(1) / T(n)" in "\n".join(lines)
    assert lines[-1].split() == ["2", "1.0", "s", "1.0", "s", "2.00"]


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_what_is_wrong_with_the_inventory_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    (tmp_path / "lab.toml").write_text("[machine.a]\nkind =\n")
    monkeypatch.setattr("fleet.__main__.groups", lambda _: pytest.fail("the claims were collected"))
    with pytest.raises(UserInputError, match=r"lab\.toml is not TOML"):
        main(["run", "--inventory", str(tmp_path / "lab.toml"), "--reports", str(tmp_path / "reports"), *words])
