# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin, driven for real: pytest in a process of its own, on a project of a few claims."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.paths import PROJECT
from common.waiting import Deadline, poll_until
from signoff.record import CONFIG, LISTS
from tests.unit.report_samples import BANNER

CONTRACT = """
version = 2
[[claim]]
id = "host_cannot_read"
kind = "attack"
class = "kernel-gup"
source = "s"
reason = "r"
plain = { returned = 4096, leak = "page" }
protected = { returned = -1, errno = "EFAULT", leak = "none" }
[[claim]]
id = "guest_works"
kind = "legitimate"
class = "devices"
source = "s"
reason = "r"
[[claim]]
id = "host_stays_healthy"
kind = "health"
class = "health"
source = "s"
reason = "r"
"""
CONFTEST = """
import pytest
pytest_plugins = ["signoff.plugin"]
from signoff.record import CONFIG, LISTS, Tier
from tests.unit.report_samples import CONFIGURATION, FILES, KERNEL, MADE_OF

@pytest.fixture(autouse=True, scope="session")
def known(request):
    run = request.getfixturevalue("signoff")
    run.identify(kernel=KERNEL, tier=Tier.EMULATED, series="a-series")
    own = ("sealproof's files", "Python and its packages")
    run.identify(
        made_of={name: one for name, one in MADE_OF.items() if name not in own},
        files={CONFIG: CONFIGURATION, **{LISTS[name]: text for name, text in FILES.items() if name not in own}},
    )
    run.identify(host={"cpu": "TCG", "devices": "kvm"})
    yield
    (run.folder / "hosts" / "host-1").mkdir(parents=True)
    (run.folder / "hosts" / "host-1" / "console.log").write_text("powered down")
"""
ATTACK = '''
from signoff.observation import Check, Page
from tests.unit.signoff_samples import CONTROL, SUBJECT, leaking, refused
from tests.unit.signoff_samples import Told

def test_host_cannot_read(trial):
    """Host cannot read it.

    More words.
    """
    trial.attach("note.txt", "said")
    trial = Told(trial)
    trial.attack(subject=SUBJECT, control=CONTROL)
'''
WORKS = '''
def test_guest_works(trial):
    """The guest works."""
    trial.legitimate([Check("sum", "4", "4")])
'''
HEALTHY = f'''
def test_host_stays_healthy(trial):
    """The host stays well."""
    trial.attach("console.log", {BANNER!r})
    trial.health([Check("splats", "none", "none")])
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    own = "--import-mode=importlib --strict-markers --strict-config"  # as the project's pyproject.toml has them
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {PROJECT}\naddopts = {own}\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tests_e2e" / "contract").mkdir(parents=True)
    (tmp_path / "tests_e2e" / "contract" / "claims.toml").write_text(CONTRACT)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "test_other.py").write_text("def test_other(): pass\n")
    return tmp_path


# Other plugins of this environment only cost time here.
ALONE = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]


def surroundings(project: Path, **variables: str) -> dict[str, str]:
    return {**ALONE, "XDG_CONFIG_HOME": str(project / "config"), **variables}


def run(project: Path, text: str, *words: str, **variables: str) -> tuple[int, Any, dict[str, Any], str]:
    """The exit code, the JSON document (None without a run), the claims by id, the terminal's text."""
    (project / "tests_e2e" / "test_claims.py").write_text(text + HEALTHY)
    done = subprocess.run(
        command(*words),
        cwd=project,
        env=surroundings(project, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    document = project / "reports" / "latest" / "signoff.json"
    result = json.loads(document.read_text()) if document.exists() else None
    claims = {row["id"]: row for row in result["claims"]} if result else {}
    return done.returncode, result, claims, done.stdout + done.stderr


def whole(folder: Path) -> bool:
    """Whether the folder's checksums are right, and hold for what the machines wrote at their end."""
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    return sums.returncode == 0 and "  hosts/host-1/console.log" in (folder / "SHA256SUMS").read_text()


def test_all_pass_exits_0(project: Path) -> None:
    code, result, claims, output = run(project, ATTACK + WORKS)
    assert (code, result["verdict"], result["exit_code"], result["problems"]) == (0, "PROTECTED", 0, [])
    assert claims["host_cannot_read"]["sentence"] == "Host cannot read it."
    assert "PASS   host_cannot_read" in output
    assert "exit 0" in output
    folder = project / "reports" / "latest"
    assert {"evidence/host_cannot_read/subject.jsonl", "evidence/host_cannot_read/note.txt"} <= set(
        claims["host_cannot_read"]["evidence"]
    )
    names = sorted([CONFIG, *LISTS.values()])
    assert result["logs"] == ["hosts/host-1/console.log", *names]
    assert set(result["made_of"]) >= set(LISTS)
    assert whole(folder)
    assert ET.parse(folder / "junit.xml").find("testsuite").get("errors") == "0"


KILLED = """
import pytest

@pytest.fixture(autouse=True)
def killed(signoff):
    signoff.inquest = lambda *, thorough: ["the host: kernel died: Oops\\nits console ends with: RIP"]
"""


@pytest.mark.parametrize("ending", ["raise MachineLostError('the host is lost')", "pass"])
def test_probe_that_kills_a_kernel_fails_its_claim_also_if_it_does_not_notice(project: Path, ending: str) -> None:
    errors = "from common.errors import MachineLostError\n"
    text = KILLED + errors + ATTACK.replace("trial.attack(", f"if True: {ending}\n    trial.attack(")
    code, result, claims, _ = run(project, text)
    assert (code, result["verdict"]) == (1, "NOT PROTECTED")
    row = claims["host_cannot_read"]
    assert row["status"] == "FAIL"
    assert row["why"].startswith("the probe did harm: the host: kernel died: Oops")
    assert "evidence/host_cannot_read/harm-1.txt" in row["evidence"]
    console = project / "reports" / "latest" / "evidence" / "host_cannot_read" / "harm-1.txt"
    assert console.read_text().endswith("its console ends with: RIP")


def test_a_fail_exits_1_and_beats_an_error(project: Path) -> None:
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    code, result, claims, output = run(project, text + WORKS.replace('"4")])', '"4")]); 1 / 0'))
    assert (code, result["verdict"]) == (1, "NOT PROTECTED")
    assert "FAIL: wrong outcome: EPERM is not EFAULT" in output
    assert claims["guest_works"]["status"] == "ERROR"
    assert claims["guest_works"]["why"] == "call: ZeroDivisionError: division by zero"
    assert "evidence/guest_works/traceback-call.txt" in claims["guest_works"]["evidence"]


BODIES = {  # how a claim's test ends -> status and reason
    "asserts": ("assert 1 == 2; trial.legitimate(GOOD)", "ERROR", "call: AssertionError"),
    "breaks_after_its_verdict": ("trial.legitimate(GOOD); assert 0", "ERROR", "call: AssertionError"),
    "judges_nothing": ("pass", "MISS", "without a verdict"),
    "checks_nothing": ("trial.legitimate([])", "MISS", "nothing was checked"),
    "skips_itself_for_no_reason": ("pytest.skip('')", "MISS", "skipped itself, which is no verdict: it gave no reason"),
    "skips_itself": ("pytest.skip('no disk here')", "MISS", "skipped itself, which is no verdict: no disk here"),
    "is_skipped": ("trial.legitimate(BAD)", "SKIP", "the host has no VFIO (/dev/vfio/vfio)"),
    "is_not_skipped": ("trial.legitimate(BAD)", "FAIL", "5 is not 4"),
    "skips_itself_without_need": ("pytest.skip('no disk here')", "MISS", "skipped itself"),
    "judges_twice": ("trial.legitimate(GOOD); trial.legitimate([])", "ERROR", "judged twice"),
    "is_another_kind": ("trial.health(GOOD)", "ERROR", "is legitimate in the contract"),
    "is_no_attack": ("trial.attack(subject=[])", "ERROR", "is legitimate in the contract"),
    "swallows_its_verdict": ("with suppress(BaseException): trial.legitimate(BAD)", "FAIL", "5 is not 4"),
    "fails_and_then_skips": ("with suppress(BaseException): trial.legitimate(BAD)\n    pytest.skip('no')", "FAIL", "5"),
    "fails_and_then_breaks": (
        "with suppress(BaseException): trial.legitimate(BAD)\n    1 / 0",
        "FAIL",
        "besides: call",
    ),
    "harms_a_guest": ("raise HarmError('cannot make private the user page: EBUSY')", "FAIL", "did harm: cannot make"),
    "passes_and_then_harms": ("trial.legitimate(GOOD); raise HarmError('cannot')", "FAIL", "did harm: cannot"),
    "fails_and_then_harms": (
        "with suppress(BaseException): trial.legitimate(BAD)\n    raise HarmError('cannot')",
        "FAIL",
        "wrong result: sum: 5 is not 4",
    ),
    "raises_our_error": ("raise MachineLostError('panic', hint='look')", "ERROR", "call: machine: panic\n  next: look"),
}
FIXTURES = """
import pytest
from contextlib import suppress
from common.errors import HarmError, MachineLostError
from signoff.observation import Check
GOOD, BAD = [Check("sum", "4", "4")], [Check("sum", "4", "5")]

@pytest.fixture
def early(): raise OSError("no boot")

@pytest.fixture
def late():
    yield
    raise OSError("torn")

def test_breaks_in_setup(trial, early): trial.legitimate(GOOD)
def test_breaks_in_teardown(trial, late): trial.legitimate(GOOD)
@pytest.mark.xfail
def test_is_expected_to_fail(trial): 1 / 0
@pytest.mark.skip(reason="")
def test_is_marked_to_skip(trial): trial.legitimate(GOOD)
"""
ENDS = {
    **{name: (status, why) for name, (_, status, why) in BODIES.items()},
    "breaks_in_setup": ("ERROR", "setup: OSError: no boot"),
    "breaks_in_teardown": ("ERROR", "teardown: OSError: torn"),
    "is_expected_to_fail": ("ERROR", "ZeroDivisionError"),
    "is_marked_to_skip": ("MISS", "skipped itself, which is no verdict: it gave no reason"),
    "has_no_test": ("ERROR", "there is no test named test_has_no_test"),
}


def test_nothing_but_a_verdict_of_pass_makes_a_pass(project: Path) -> None:
    head, attack, work, health = CONTRACT.split("[[claim]]")
    attack = f"{head}[[claim]]{attack}[[claim]]{health}"
    lines = "".join(f"[[claim]]{work.replace('guest_works', name)}" for name in ENDS)
    for name, fact in (
        ("is_skipped", "no-vfio"),
        ("is_not_skipped", "real-machine"),
        ("skips_itself_without_need", "real-machine"),
    ):
        lines = lines.replace(f'id = "{name}"', f'id = "{name}"\nskip = {{ when = "{fact}" }}')
    (project / "tests_e2e" / "contract" / "claims.toml").write_text(attack + lines)
    tests = "".join(f"def test_{name}(trial):\n    {body}\n" for name, (body, _, _) in BODIES.items())
    code, result, claims, output = run(project, ATTACK + FIXTURES + tests)
    assert result, output
    assert code == result["exit_code"] == 1
    assert claims.pop("host_cannot_read")["status"] == claims.pop("host_stays_healthy")["status"] == "PASS"
    assert {name: row["status"] for name, row in claims.items()} == {name: end[0] for name, end in ENDS.items()}
    for name, (_, why) in ENDS.items():
        assert why in claims[name]["why"]
    suite = ET.parse(project / "reports" / "latest" / "junit.xml").find("testsuite")
    counts = {status: sum(row["status"] == status for row in claims.values()) for status in ("FAIL", "ERROR", "MISS")}
    assert (
        int(suite.get("failures")) == len(suite.findall("testcase/failure")) == counts["FAIL"] + 1
    )  # and the whole run
    assert int(suite.get("errors")) == len(suite.findall("testcase/error")) == counts["ERROR"] + counts["MISS"]
    assert suite.find("testcase/skipped").get("message") == "SKIP: the host has no VFIO (/dev/vfio/vfio)"


def test_what_is_not_proven_exits_2(project: Path) -> None:
    code, result, claims, _ = run(project, ATTACK + WORKS.replace("trial.legitimate", "1 / 0; trial.legitimate"))
    assert (code, result["verdict"], claims["guest_works"]["status"]) == (2, "NOT PROVEN", "ERROR")


def test_names_that_select_no_claim_are_told_how_to_list_them(project: Path) -> None:
    code, result, _, output = run(project, ATTACK + WORKS, "tests_e2e", "-k", "host_canot")
    assert (code, result) == (pytest.ExitCode.NO_TESTS_COLLECTED, None)  # our command makes "not proven" of it
    assert output.count("no claim was selected: '--collect-only -q' lists their names") == 1


def test_a_deselected_claim_is_miss(project: Path) -> None:
    code, _, claims, _ = run(project, ATTACK + WORKS, "-k", "host_cannot")
    assert (code, claims["guest_works"]["why"]) == (2, "not run: deselected by -k 'host_cannot'")
    assert claims["guest_works"]["sentence"] == "The guest works."


QUICK_LIST = "import pytest\n" + ATTACK.replace("def test_host", "@pytest.mark.quick\ndef test_host")


@pytest.fixture
def quick_marker(project: Path) -> None:
    with (project / "pytest.ini").open("a") as file:
        file.write("markers = quick: a few claims\n")


@pytest.mark.usefixtures("quick_marker")
def test_the_quick_list_alone_exits_0_and_its_report_proves_nothing(project: Path) -> None:
    code, result, claims, output = run(project, QUICK_LIST + WORKS, "-m", "quick")
    assert (code, result["exit_code"], result["verdict"]) == (0, 2, "NOT PROVEN")
    assert {name: claim["status"] for name, claim in claims.items()} == {
        "host_cannot_read": "PASS",
        "guest_works": "MISS",
        "host_stays_healthy": "MISS",
    }
    assert "exit 0: every claim of the quick list is PASS" in output
    assert "exit 2" not in output


@pytest.mark.usefixtures("quick_marker")
@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        (QUICK_LIST + WORKS, ("-k", "host_cannot"), 2),  # the same claims, not asked for by the list's name
        (QUICK_LIST + WORKS, ("-m", "quick", "-k", "host"), 2),
        (
            QUICK_LIST + WORKS,
            ("-m", "quick or not quick", "--deselect", "tests_e2e/test_claims.py::test_guest_works"),
            2,
        ),
        (QUICK_LIST + WORKS, ("-m", "quick", "tests_e2e/test_claims.py::test_host_cannot_read"), 2),  # a part of it
        (QUICK_LIST.replace("trial.attach", "1 / 0; trial.attach") + WORKS, ("-m", "quick"), 2),
        (
            QUICK_LIST.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control") + WORKS,
            ("-m", "quick"),
            1,
        ),
        (
            "import pytest\n" + ATTACK + WORKS.replace("def ", "@pytest.mark.quick\ndef "),
            ("-m", "quick"),
            2,
        ),  # no attack
    ],
)
def test_no_other_selection_exits_0(project: Path, text: str, words: tuple[str, ...], expected: int) -> None:
    code, result, _, output = run(project, text, *words)
    assert (code, result["exit_code"]) == (expected, expected), output


def test_an_expression_may_be_longer_than_a_files_name(project: Path) -> None:
    code, _, claims, output = run(project, ATTACK + WORKS, "-k", " or ".join(["host_cannot"] * 30))
    assert (code, claims["guest_works"]["status"]) == (2, "MISS"), output


def test_a_claim_not_asked_for_is_miss(project: Path) -> None:
    code, _, claims, _ = run(project, ATTACK + WORKS, "tests_e2e/test_claims.py::test_host_cannot_read")
    assert (code, claims["guest_works"]["status"]) == (2, "MISS")
    assert "its test was not requested" in claims["guest_works"]["why"]


def test_a_run_that_stopped_early_says_so(project: Path) -> None:
    code, _, claims, _ = run(project, ATTACK.replace("trial.attack", "1 / 0; trial.attack") + WORKS, "-x")
    assert (code, claims["guest_works"]["why"]) == (2, "not run: stopping after 1 failures")


def test_a_test_without_a_line_in_the_contract_is_named(project: Path) -> None:
    code, result, _, output = run(project, ATTACK + WORKS + WORKS.replace("guest_works", "guest_flies"))
    assert (code, result["problems"]) == (2, ["test_guest_flies has no entry in the contract"])
    assert "has no claim of that name" in output


def test_an_unknown_kernel_is_no_proof(project: Path) -> None:
    (project / "conftest.py").write_text('pytest_plugins = ["signoff.plugin"]\n')
    code, result, _, _ = run(project, ATTACK + WORKS)
    assert (code, result["kernel"], result["tier"]) == (2, None, None)
    assert "not identified" in result["problems"][0]


def test_mode_plain_says_loudly_that_it_is_no_signoff(project: Path) -> None:
    code, result, _, output = run(
        project,
        ATTACK.replace("CONTROL, SUBJECT", "PLAIN").replace("subject=SUBJECT, control=CONTROL", "subject=PLAIN")
        + WORKS,
        "--mode",
        "plain",
    )
    assert (code, result["verdict"], result["mode"]) == (0, "CONTROLS HOLD", "plain")
    assert "This is not a sign-off" in output
    assert "This is not a sign-off" in (project / "reports" / "latest" / "signoff.html").read_text()


def test_unit_tests_alone_leave_nothing_behind(project: Path) -> None:
    (project / "conftest.py").write_text('pytest_plugins = ["signoff.plugin"]\n')
    code, result, _, _ = run(project, ATTACK + WORKS, "others")
    assert (code, result) == (0, None)
    assert run(project, ATTACK + WORKS, "-k", "test_other")[:2] == (0, None)
    assert not (project / "reports").exists()


def test_a_failing_unit_test_beside_good_claims_is_not_0(project: Path) -> None:
    (project / "others" / "test_other.py").write_text("def test_other(): assert 0\n")
    code, result, _, output = run(project, ATTACK + WORKS)
    assert (code, result["exit_code"]) == (1, 0)
    assert "other tests of this session failed" in output


def test_a_contract_with_a_fault_names_it(project: Path) -> None:
    (project / "tests_e2e" / "contract" / "claims.toml").write_text(CONTRACT.replace('"EFAULT"', '"EFALUT"'))
    code, result, _, output = run(project, ATTACK + WORKS)
    assert (code, result) == (2, None)
    assert "claims.toml:3: host_cannot_read: protected: errno: there is no EFALUT" in output


SHARED = """
import time
import pytest

@pytest.fixture(scope="session")
def machines():
    time.sleep(1.5)
    yield
    time.sleep(1.5)

@pytest.fixture
def own():
    time.sleep(0.4)

def test_guest_works(trial, request, own):
    request.getfixturevalue("machines")
    trial.legitimate([Check("sum", "4", "4")])
"""


def test_what_all_tests_share_is_no_claims_time(project: Path) -> None:
    code, _, claims, output = run(project, ATTACK + SHARED)
    assert code == 0, output
    assert 0.4 <= claims["guest_works"]["seconds"] < 1.5
    assert claims["host_stays_healthy"]["seconds"] < 1.5  # the last one ends it


GIVES_UP = """
import pytest

@pytest.fixture
def machines():
    pytest.exit("the set-up failed: kernel: no such tree\\n  next: look", returncode=2)

def test_host_cannot_read(trial, machines):
    pass
"""


def test_a_set_up_that_failed_is_told_at_each_claim(project: Path) -> None:
    code, result, claims, output = run(project, GIVES_UP + WORKS)
    why = "the set-up failed: kernel: no such tree\n  next: look"
    assert (code, result["verdict"]) == (2, "NOT PROVEN")
    assert (claims["host_cannot_read"]["status"], claims["host_cannot_read"]["why"]) == ("ERROR", why)
    assert (claims["guest_works"]["status"], claims["guest_works"]["why"]) == ("MISS", f"not run: {why}")
    assert result["problems"][0] == "the set-up failed: kernel: no such tree"
    assert "the set-up failed: kernel: no such tree" in result["summary"]
    assert "interrupted" not in result["summary"]
    assert "MISS   guest_works\n       not run: the set-up failed: kernel: no such tree\n" in output


BROUGHT_DOWN = GIVES_UP.replace(
    """    pytest.exit("the set-up failed: kernel: no such tree\\n  next: look", returncode=2)""",
    """    try:
        raise HarmError("a plain guest comes up, and not the one under test")
    except HarmError as error:
        pytest.exit(f"the set-up failed: {error}", returncode=2)""",
).replace("import pytest", "import pytest\nfrom common.errors import HarmError")


def test_a_set_up_that_the_kernel_under_test_brings_down_is_a_fail_of_health_and_no_error(project: Path) -> None:
    code, result, claims, output = run(project, BROUGHT_DOWN + WORKS)
    assert (code, result["verdict"]) == (1, "NOT USABLE"), output
    why = "not run: the set-up failed: harm: a plain guest comes up, and not the one under test"
    for name in ("host_cannot_read", "guest_works"):
        assert (claims[name]["status"], claims[name]["why"]) == ("MISS", why)
    health = claims["host_stays_healthy"]
    assert health["status"] == "FAIL"
    assert health["why"] == "the probe did harm: a plain guest comes up, and not the one under test"


def test_health_that_nobody_asked_for_is_not_judged_by_a_set_up_that_failed(project: Path) -> None:
    code, _, claims, _ = run(project, BROUGHT_DOWN + WORKS, "-k", "guest_works or host_cannot_read")
    assert (code, claims["host_stays_healthy"]["status"]) == (2, "MISS")


def test_a_set_up_that_fails_after_a_fail_does_not_hide_it(project: Path) -> None:
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    code, result, claims, _ = run(project, text + GIVES_UP.replace("test_host_cannot_read", "test_guest_works"))
    assert (code, result["verdict"]) == (1, "NOT PROTECTED")
    assert claims["guest_works"]["status"] == "ERROR"


PLACES: dict[
    str, tuple[Callable[[Path], object], str]
] = {  # what is in the place of the folder for reports -> what is told
    "a file": (lambda place: place.touch(), "File exists"),
    "below a file": (lambda place: place.parent.touch(), "Not a directory"),
    "a link to nothing": (lambda place: place.symlink_to("gone/away"), "File exists"),
}


@pytest.mark.parametrize("place", PLACES)
def test_reports_that_cannot_be_kept_are_told_in_one_line_before_any_work(project: Path, place: str) -> None:
    make, why = PLACES[place]
    reports = project / "kept" / "reports"
    if place != "below a file":
        reports.parent.mkdir()
    make(reports)
    code, result, _, output = run(project, ATTACK + WORKS, "--reports", str(reports))
    assert (code, result) == (2, None)
    message = f"reports: reports cannot be written to {reports}: {why}; name another folder with --reports DIR"
    assert output.count(message) == 1
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert "test_claims.py" not in output  # no claim was begun
    (reports.parent if place == "below a file" else reports).unlink()  # nothing was changed there


def test_a_folder_for_reports_that_can_be_nowhere_is_a_wrong_option(project: Path) -> None:
    reports = project / "kept"
    reports.symlink_to(reports.name)
    code, result, _, output = run(project, ATTACK + WORKS, "--reports", str(reports))
    assert (code, result) == (pytest.ExitCode.USAGE_ERROR, None)
    assert "Too many levels of symbolic links" in output
    assert "Traceback" not in output
    assert "test_claims.py" not in output


@pytest.mark.parametrize(
    ("options", "fill", "message"),
    [
        ("ro", "true", "reports cannot be written to {}: Read-only file system; name another folder"),
        ("size=4k", "head -c 4096 /dev/zero > {}/filler", "no space left for {}: 0.0 GiB free"),
    ],
)
def test_reports_on_a_disk_that_takes_nothing_are_told_in_one_line(
    project: Path, options: str, fill: str, message: str
) -> None:
    """Also to root, whom no permission stops."""
    reports = project / "reports"
    reports.mkdir()
    (project / "tests_e2e" / "test_claims.py").write_text(ATTACK + WORKS)
    fill = fill.format(reports)
    inside = f"mount -t tmpfs -o {options} none {reports} && {fill} && exec {shlex.join(command('tests_e2e'))}"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", inside],
        cwd=project,
        env=ALONE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare failed" in done.stderr:
        pytest.skip("no namespaces here")
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    assert output.count(message.format(reports)) >= 1
    assert "XDG_CACHE_HOME" not in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output


def folder_of(project: Path) -> Path:
    (folder,) = (path for path in (project / "reports").glob("2*") if path.is_dir() and not path.is_symlink())
    return folder


LINKS: dict[str, tuple[Callable[[Path], object], str]] = {  # what is in the place of the link, what is told of it
    "folder": (lambda latest: (latest / "evidence").mkdir(parents=True), "is a folder, not a link: it stays as it is"),
    "file": (lambda latest: latest.write_text("20260101T000000Z-abcdef"), "is a file, not a link: it stays as it is"),
    "link to nothing": (lambda latest: latest.symlink_to("gone"), ""),
    "link to itself": (lambda latest: latest.symlink_to("latest"), ""),
    "link to a folder elsewhere": (lambda latest: latest.symlink_to("../others"), ""),
}


@pytest.mark.parametrize("place", LINKS)
@pytest.mark.parametrize("verdict", [0, 1])
def test_what_is_in_the_place_of_latest_changes_no_verdict(project: Path, place: str, verdict: str) -> None:
    make, why = LINKS[place]
    latest = project / "reports" / "latest"
    latest.parent.mkdir()
    make(latest)
    text = (
        ATTACK
        if verdict == 0
        else ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    )
    code, _, _, output = run(project, text + WORKS)
    folder = folder_of(project)
    assert code == verdict, output
    assert json.loads((folder / "signoff.json").read_text())["exit_code"] == verdict
    assert "could not be written" not in output
    assert not list(latest.parent.glob(".latest*"))
    if why:
        assert len([line for line in output.splitlines() if f"{latest} {why}" in line]) == 1
        assert not latest.is_symlink()
        assert latest.is_dir() is (place == "folder")
    else:
        assert latest.resolve() == folder
        assert "does not point" not in output


def test_reports_that_became_read_only_change_no_verdict(project: Path) -> None:
    """Only the folder around the run's is: as where a run's folder is a mount of its own."""
    works = WORKS.replace("    trial.", "    import os; os.system(MOUNT)\n    trial.")
    mount = (
        "f=$(basename reports/2*) && mount --bind reports/$f /mnt && mount -t tmpfs none reports && mkdir reports/$f"
        " && mount --bind /mnt reports/$f && mount -o remount,ro reports || touch refused"
    )
    (project / "tests_e2e" / "test_claims.py").write_text(f"MOUNT = {mount!r}\n{ATTACK}{works}{HEALTHY}")
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", *command()],
        cwd=project,
        env=ALONE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare failed" in done.stderr or (project / "refused").exists():
        pytest.skip("no namespaces here")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count(f"{project / 'reports' / 'latest'} does not point to this run: Read-only file system") == 1
    assert json.loads((folder_of(project) / "signoff.json").read_text())["exit_code"] == 0


def test_run_whose_folder_is_moved_away_is_not_proven_and_told_in_one_line(project: Path) -> None:
    works = WORKS.replace("    trial.", "    import os; os.rename('reports', 'elsewhere')\n    trial.")
    code, result, _, output = run(project, ATTACK + works)
    assert (code, result) == (2, None)
    assert output.count("sealproof: the report could not be written") == 1
    assert "exit 2: not proven" in output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    (report,) = (path for path in (project / "elsewhere").iterdir() if path.is_dir())
    moved = subprocess.run(
        [sys.executable, "-m", "signoff", report], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert moved.returncode == 2
    assert "PASS   host_cannot_read" in moved.stdout


def test_run_whose_claims_cannot_be_kept_ends_with_one_line(project: Path) -> None:
    works = WORKS.replace(
        "    trial.", "    import pathlib; [f] = pathlib.Path('reports').glob('2*/claims.jsonl')\n    trial."
    )
    text = ATTACK + works.replace("    trial.", "    f.unlink(); f.mkdir()\n    trial.")
    code, _, _, output = run(project, text)
    assert code == 2
    assert output.count("the run's folder is no longer writable: [Errno 21] Is a directory") == 1
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output


def test_a_broken_test_file_is_not_proven(project: Path) -> None:
    (project / "tests_e2e" / "test_broken.py").write_text("import nothing_of_that_name\n")
    code, _, claims, _ = run(project, ATTACK + WORKS)
    assert (code, claims["guest_works"]["why"]) == (2, "not run: interrupted")


HANG = "    import pathlib, time; pathlib.Path('ready').touch(); time.sleep(60)\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_cut_short_still_has_a_report_and_exits_2(project: Path, how: str) -> None:
    (project / "tests_e2e" / "test_claims.py").write_text(ATTACK + WORKS.replace("    trial.", f"{HANG}    trial."))
    with subprocess.Popen(
        command(), cwd=project, env=surroundings(project), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        poll_until((project / "ready").exists, Deadline(60), "the second claim's test to begin")
        os.kill(process.pid, how)
        code = process.wait(timeout=60)
    folder = next(path for path in (project / "reports").iterdir() if not path.is_symlink())
    if how is signal.SIGKILL:
        assert not (folder / "signoff.json").exists()
        code = subprocess.run([sys.executable, "-m", "signoff", folder], cwd=PROJECT, check=False, stdout=-3).returncode
    document = json.loads((folder / "signoff.json").read_text())
    claims = {row["id"]: row for row in document["claims"]}
    assert (code, document["exit_code"], document["verdict"]) == (2, 2, "NOT PROVEN")
    assert claims["host_cannot_read"]["status"] == "PASS"
    assert claims["guest_works"]["status"] == ("ERROR" if how is signal.SIGINT else "MISS")
    assert how is signal.SIGKILL or whole(folder)
    assert (folder / "signoff.html").exists()


def test_the_options_stand_under_one_heading(project: Path) -> None:
    output = run(project, ATTACK, "--help")[3]
    assert "--mode={protected,plain}" in output or "--mode={plain,protected}" in output
    assert output.index("sealproof:") < output.index("--reports=DIR")


WEAK = CONTRACT.replace('"EFAULT"', '"EPERM"')
JUDGE = """
import signoff.trial
from signoff.verdict import Status, Verdict

signoff.trial.judge = lambda *_: Verdict(Status.PASS, "good", "good", "good", "good", "all is well")
"""
REFUSED = {
    "PYTEST_ADDOPTS": "-o sealproof_contract=weak.toml",
    "PYTEST_PLUGINS": "json.tool",
    "PYTHONPATH": "elsewhere",
    "PYTHONOPTIMIZE": "1",
    "PYTHONPYCACHEPREFIX": "elsewhere",
    "PYTHONPLATLIBDIR": "lib",
    "LD_LIBRARY_PATH": "elsewhere",
    "OPENSSL_CONF": "elsewhere.cnf",
    "LD_PRELOAD": "libm.so.6",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_pytest_behind_the_command_is_refused(project: Path, name: str) -> None:
    code, result, _, output = run(project, ATTACK + WORKS, "tests_e2e", **{name: REFUSED[name]})
    assert (code, result) == (2, None)
    assert f"sealproof: {name} is set, which changes what a sign-off runs" in output


@pytest.mark.parametrize("option", ["--collect-only", "--help", "--fixtures", "--markers", "-V -V", "--version"])
def test_what_only_asks_pytest_does_not_exit_0_by_the_environment(project: Path, option: str) -> None:
    code, result, _, output = run(project, ATTACK + WORKS, "tests_e2e", PYTEST_ADDOPTS=option)
    assert (code, result) == (2, None), output


@pytest.mark.parametrize("option", ["--collect-only", "--help", "--fixtures", "--markers", "--fixtures-per-test"])
def test_nothing_exits_0_without_a_new_report(project: Path, option: str) -> None:
    assert run(project, ATTACK + WORKS)[0] == 0
    before = (project / "reports" / "latest").resolve()
    code, _, _, output = run(project, ATTACK + WORKS, "tests_e2e", option)
    assert (code, (project / "reports" / "latest").resolve()) == (2, before)
    assert re.search("(no report was written|writes no report): this is not a sign-off", output)


def test_another_contract_is_named_in_the_headline(project: Path) -> None:
    (project / "weak.toml").write_text(WEAK)
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    code, result, _, output = run(project, text + WORKS, "-o", "sealproof_contract=weak.toml")
    assert (code, result["verdict"], result["claims"][0]["status"]) == (2, "NOT PROVEN", "PASS")
    assert "not a sign-off: option -o" in output
    assert f"contract of 3 claims, sha256 {result['contract']['sha256']}" in output


SETTINGS = f"[pytest]\nsealproof_contract = weak.toml\npythonpath = {PROJECT}\naddopts = --import-mode=importlib\n"
TOML = f"""[pytest]
sealproof_contract = "weak.toml"
pythonpath = ["{PROJECT}"]
addopts = ["--import-mode=importlib"]
"""


@pytest.mark.parametrize(
    ("name", "content", "words", "named"),
    [
        ("opts", "-o\nsealproof_contract=weak.toml\n", ["@opts"], "option -o"),
        ("opts", "-x\n", ["@opts", "-o", "sealproof_contract=weak.toml"], "options from the file opts"),
        ("none", "", ["-vo", "sealproof_contract=weak.toml"], "option -o"),
        ("other.ini", SETTINGS, ["-vc", "other.ini"], "option -c"),
        ("pytest.toml", TOML, [], "the settings are those of pytest.toml, and not of pytest.ini"),
    ],
)
def test_another_contract_is_named_however_it_is_chosen(
    project: Path, name: str, content: str, words: list[str], named: str
) -> None:
    (project / "weak.toml").write_text(WEAK)
    (project / name).write_text(content)
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    code, result, _, output = run(project, text + WORKS, *words)
    assert (code, result["verdict"], result["claims"][0]["status"]) == (2, "NOT PROVEN", "PASS"), output
    assert f"not a sign-off: {named}" in " ".join(output.split())


@pytest.mark.parametrize("how", ["plugin", "conftest"])
def test_a_judge_from_elsewhere_is_named_and_does_not_hold(project: Path, how: str) -> None:
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    place = project / ("judge.py" if how == "plugin" else "tests_e2e/conftest.py")
    place.write_text(JUDGE)
    code, result, _, output = run(project, text + WORKS, *(["-p", "judge"] if how == "plugin" else []))
    assert (code, result["verdict"]) == (2, "NOT PROVEN")
    assert (
        f"not a sign-off: {'the pytest plugin judge' if how == 'plugin' else 'tests_e2e/conftest.py'} is not" in output
    )
    assert "the claims do not match their evidence" in " ".join(output.split())
    assert "it says PASS, and the evidence gives FAIL" in " ".join(output.split())


def test_every_sign_off_is_signed(project: Path) -> None:
    code, result, _, _ = run(project, ATTACK + WORKS)
    assert code == 0
    folder = (project / "reports" / "latest").resolve()
    words = [sys.executable, "-m", "verifier", str(folder), "--key", str(project / "config/sealproof/signing-key.pem")]
    words += ["--contract", str(project / "tests_e2e" / "contract")]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    # The commit is this checkout's own: whole in CI, with changes on top of it where somebody works on it.
    commit = result["run"]["commit"]
    if re.fullmatch("[0-9a-f]{40}", commit):
        assert (done.returncode, done.stdout.startswith("PROTECTED")) == (0, True), done.stdout
    else:
        assert (done.returncode, done.stdout.startswith("NOT PROVEN")) == (2, True), done.stdout
        assert f"sealproof was {commit}" in done.stdout
    assert "signer's key, contract: as you named them" in done.stdout


def edit_run(project: Path, change: Callable[[Path], object]) -> tuple[int, str]:
    """The exit code and the words of ``python -m signoff`` on a run's folder after a change."""
    folder = (project / "reports" / "latest").resolve()
    change(folder)
    done = subprocess.run(
        [sys.executable, "-m", "signoff", folder],
        cwd=PROJECT,
        env=surroundings(project),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_reports_are_not_made_of_an_edited_run(project: Path) -> None:
    run(project, ATTACK + WORKS, "-k", "host")
    record = (project / "reports" / "latest").resolve() / "record.json"
    code, text = edit_run(project, lambda _: record.write_text(record.read_text().replace("emulated", "bare-metal")))
    assert (code, "was changed after it was signed" in text) == (2, True), text
    code, text = edit_run(project, lambda folder: (folder / "attestation.json").unlink())
    assert (code, "this run was not signed at its end" in " ".join(text.split())) == (2, True)
    assert "PROTECTED   mode" not in text.replace("NOT PROTECTED", "")


def test_a_host_is_known_before_a_claim_is_skipped(project: Path) -> None:
    """Fixtures of the test come later, so that none makes what the claim will not need."""
    (project / "conftest.py").write_text(
        CONFTEST.replace('run.identify(host={"cpu": "TCG", "devices": "kvm"})', "")
        + """
@pytest.fixture
def host_is_known(signoff): signoff.identify(host={"cpu": "TCG", "devices": "kvm"})
"""
    )
    contract = CONTRACT.replace('id = "guest_works"', 'id = "guest_works"\nskip = { when = "no-vfio" }')
    (project / "tests_e2e" / "contract" / "claims.toml").write_text(contract)
    works = WORKS.replace("(trial)", "(trial, dear)") + "@pytest.fixture\ndef dear(): raise OSError('for nothing')\n"
    code, result, claims, output = run(project, "import pytest\n" + ATTACK + works)
    assert (code, result["verdict"], claims["guest_works"]["status"]) == (0, "PROTECTED", "SKIP"), output
    assert claims["guest_works"]["skip"] == "no-vfio"


def test_no_claims_test_skips_itself() -> None:
    for file in (PROJECT / "tests_e2e").rglob("*.py"):
        assert not re.search(r"\bskip\(|mark\.skip|importorskip", file.read_text(encoding="utf-8")), file


def test_what_a_test_says_was_not_asked_for_is_miss(project: Path) -> None:
    skips = "import pytest\n" + WORKS.replace("trial.legit", 'pytest.skip("it was not asked for: --more"); trial.legit')
    code, result, claims, _ = run(project, ATTACK + skips)
    assert (code, result["verdict"], claims["guest_works"]["status"]) == (2, "NOT PROVEN", "MISS")
