# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin, driven for real: pytest in a process of its own, on a project of a few claims."""

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from common.paths import PROJECT
from common.waiting import Deadline, poll_until

CONTRACT = """
version = 1
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
plain = { right = true }
protected = { right = true }
"""
CONFTEST = """
import pytest
pytest_plugins = ["signoff.plugin"]
from signoff.record import Kernel, Tier

@pytest.fixture(autouse=True, scope="session")
def known(request):
    run = request.getfixturevalue("signoff")
    run.identify(kernel=Kernel("6.12.1", "ab" * 20, "linux 6.12.1", "cd" * 32), tier=Tier.EMULATED, series="stock")
    run.identify(host={"cpu": "TCG"})
    run.logs("console.log", lambda: "the host's last words")
    run.logs("gone.log", lambda: 1 / 0)
    yield
    (run.folder / "hosts").mkdir()
    (run.folder / "hosts" / "console.log").write_text("powered down")
"""
ATTACK = '''
from signoff.observation import Check, Page
from tests_unit.signoff_samples import CONTROL, SUBJECT, leaking, refused

def test_host_cannot_read(claim):
    """Host cannot read it.

    More words.
    """
    claim.attach("note.txt", "said")
    claim.attack(subject=SUBJECT, control=CONTROL)
'''
WORKS = '''
def test_guest_works(claim):
    """The guest works."""
    claim.legitimate([Check("sum", "4", "4")])
'''


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {PROJECT}\naddopts = --import-mode=importlib\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "tests_e2e").mkdir()
    (tmp_path / "tests_e2e" / "contract.toml").write_text(CONTRACT)
    (tmp_path / "tests_unit").mkdir()
    (tmp_path / "tests_unit" / "test_other.py").write_text("def test_other(): pass\n")
    return tmp_path


# Other plugins of this environment only cost time here.
ALONE = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def command(*words):
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]


def run(project, text, *words):
    """The exit code, the JSON document (None without a run), the claims by id, the terminal's text."""
    (project / "tests_e2e" / "test_claims.py").write_text(text)
    done = subprocess.run(
        command(*words), cwd=project, env=ALONE, capture_output=True, text=True, timeout=120, check=False
    )
    document = project / "reports" / "latest" / "signoff.json"
    found = json.loads(document.read_text()) if document.exists() else None
    claims = {one["id"]: one for one in found["claims"]} if found else {}
    return done.returncode, found, claims, done.stdout + done.stderr


def whole(folder):
    """Whether the folder's checksums are right, and hold for what the machines wrote at their end."""
    sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    return sums.returncode == 0 and "  hosts/console.log" in (folder / "SHA256SUMS").read_text()


def test_all_pass_exits_0(project):
    code, found, claims, said = run(project, ATTACK + WORKS)
    assert (code, found["verdict"], found["exit_code"], found["problems"]) == (0, "PROTECTED", 0, [])
    assert claims["host_cannot_read"]["sentence"] == "Host cannot read it."
    assert "PASS   host_cannot_read" in said
    assert "exit 0" in said
    folder = project / "reports" / "latest"
    assert {"evidence/host_cannot_read/subject.jsonl", "evidence/host_cannot_read/note.txt"} <= set(
        claims["host_cannot_read"]["evidence"]
    )
    assert found["logs"] == ["hosts/console.log", "logs/console.log", "logs/gone.log.missing"]
    assert "ZeroDivisionError" in (folder / "logs" / "gone.log.missing").read_text()
    assert whole(folder)
    assert ET.parse(folder / "junit.xml").find("testsuite").get("errors") == "0"


KILLED = """
import pytest

@pytest.fixture(autouse=True)
def killed(signoff):
    signoff.inquest = lambda *, thorough: ["the host: kernel died: Oops\\nits console ends with: RIP"]
"""


@pytest.mark.parametrize("ending", ["raise MachineLostError('the host is lost')", "pass"])
def test_probe_that_kills_a_kernel_fails_its_claim_also_if_it_does_not_notice(project, ending):
    errors = "from common.errors import MachineLostError\n"
    text = KILLED + errors + ATTACK.replace("claim.attack(", f"if True: {ending}\n    claim.attack(")
    code, found, claims, _ = run(project, text)
    assert (code, found["verdict"]) == (1, "NOT PROTECTED")
    one = claims["host_cannot_read"]
    assert one["status"] == "FAIL"
    assert one["why"].startswith("the probe did harm: the host: kernel died: Oops")
    assert "evidence/host_cannot_read/harm-1.txt" in one["evidence"]
    kept = project / "reports" / "latest" / "evidence" / "host_cannot_read" / "harm-1.txt"
    assert kept.read_text().endswith("its console ends with: RIP")


def test_a_fail_exits_1_and_beats_an_error(project):
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    code, found, claims, said = run(project, text + WORKS.replace('"4")])', '"4")]); 1 / 0'))
    assert (code, found["verdict"]) == (1, "NOT PROTECTED")
    assert "FAIL: wrong outcome: EPERM is not EFAULT" in said
    assert claims["guest_works"]["status"] == "ERROR"
    assert claims["guest_works"]["why"] == "call: ZeroDivisionError: division by zero"
    assert "evidence/guest_works/traceback-call.txt" in claims["guest_works"]["evidence"]


BODIES = {  # how a claim's test ends -> status and reason
    "asserts": ("assert 1 == 2; claim.legitimate(GOOD)", "ERROR", "call: AssertionError"),
    "breaks_after_its_verdict": ("claim.legitimate(GOOD); assert 0", "ERROR", "call: AssertionError"),
    "judges_nothing": ("pass", "MISS", "without a verdict"),
    "checks_nothing": ("claim.legitimate([])", "MISS", "nothing was checked"),
    "skips_for_no_reason": ("claim.skip('')", "MISS", "skipped without a reason"),
    "skips_for_a_reason": ("claim.skip('no disk here')", "SKIP", "no disk here"),
    "judges_twice": ("claim.legitimate(GOOD); claim.legitimate([])", "ERROR", "judged twice"),
    "is_another_kind": ("claim.health(GOOD)", "ERROR", "is legitimate in the contract"),
    "is_no_attack": ("claim.attack(subject=[])", "ERROR", "is legitimate in the contract"),
    "swallows_its_verdict": ("with suppress(BaseException): claim.legitimate(BAD)", "FAIL", "5 is not 4"),
    "fails_and_then_skips": ("with suppress(BaseException): claim.legitimate(BAD)\n    claim.skip('no')", "FAIL", "5"),
    "fails_and_then_breaks": (
        "with suppress(BaseException): claim.legitimate(BAD)\n    1 / 0",
        "FAIL",
        "besides: call",
    ),
    "harms_a_guest": ("raise HarmError('cannot make private the user page: EBUSY')", "FAIL", "did harm: cannot make"),
    "passes_and_then_harms": ("claim.legitimate(GOOD); raise HarmError('cannot')", "FAIL", "did harm: cannot"),
    "fails_and_then_harms": (
        "with suppress(BaseException): claim.legitimate(BAD)\n    raise HarmError('cannot')",
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

def test_breaks_in_setup(claim, early): claim.legitimate(GOOD)
def test_breaks_in_teardown(claim, late): claim.legitimate(GOOD)
@pytest.mark.xfail
def test_is_expected_to_fail(claim): 1 / 0
@pytest.mark.skip(reason="")
def test_is_marked_to_skip(claim): claim.legitimate(GOOD)
"""
ENDS = {
    **{name: (status, why) for name, (_, status, why) in BODIES.items()},
    "breaks_in_setup": ("ERROR", "setup: OSError: no boot"),
    "breaks_in_teardown": ("ERROR", "teardown: OSError: torn"),
    "is_expected_to_fail": ("ERROR", "ZeroDivisionError"),
    "is_marked_to_skip": ("MISS", "skipped without a reason"),
    "has_no_test": ("ERROR", "there is no test named test_has_no_test"),
}


def test_nothing_but_a_verdict_of_pass_makes_a_pass(project):
    attack, _, work = CONTRACT.rpartition("[[claim]]")
    lines = "".join(f"[[claim]]{work.replace('guest_works', name)}" for name in ENDS)
    (project / "tests_e2e" / "contract.toml").write_text(attack + lines)
    tests = "".join(f"def test_{name}(claim):\n    {body}\n" for name, (body, _, _) in BODIES.items())
    code, found, claims, said = run(project, ATTACK + FIXTURES + tests)
    assert found, said
    assert code == found["exit_code"] == 1
    assert claims.pop("host_cannot_read")["status"] == "PASS"
    assert {name: one["status"] for name, one in claims.items()} == {name: end[0] for name, end in ENDS.items()}
    for name, (_, why) in ENDS.items():
        assert why in claims[name]["why"]
    suite = ET.parse(project / "reports" / "latest" / "junit.xml").find("testsuite")
    counts = {status: sum(one["status"] == status for one in claims.values()) for status in ("FAIL", "ERROR", "MISS")}
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == counts["FAIL"]
    assert int(suite.get("errors")) == len(suite.findall("testcase/error")) == counts["ERROR"] + counts["MISS"]
    assert suite.find("testcase/skipped").get("message") == "SKIP: no disk here"


def test_what_is_not_proven_exits_2(project):
    code, found, claims, _ = run(project, ATTACK + WORKS.replace("claim.legitimate", "1 / 0; claim.legitimate"))
    assert (code, found["verdict"], claims["guest_works"]["status"]) == (2, "NOT PROVEN", "ERROR")


def test_a_deselected_claim_is_miss(project):
    code, _, claims, _ = run(project, ATTACK + WORKS, "-k", "host_cannot")
    assert (code, claims["guest_works"]["why"]) == (2, "not run: deselected by -k 'host_cannot'")
    assert claims["guest_works"]["sentence"] == "The guest works."


def test_a_claim_not_asked_for_is_miss(project):
    code, _, claims, _ = run(project, ATTACK + WORKS, "tests_e2e/test_claims.py::test_host_cannot_read")
    assert (code, claims["guest_works"]["status"]) == (2, "MISS")
    assert "not among those that were asked for" in claims["guest_works"]["why"]


def test_a_run_that_stopped_early_says_so(project):
    code, _, claims, _ = run(project, ATTACK.replace("claim.attack", "1 / 0; claim.attack") + WORKS, "-x")
    assert (code, claims["guest_works"]["why"]) == (2, "not run: stopping after 1 failures")


def test_a_test_without_a_line_in_the_contract_is_named(project):
    code, found, _, said = run(project, ATTACK + WORKS + WORKS.replace("guest_works", "guest_flies"))
    assert (code, found["problems"]) == (2, ["test_guest_flies has no line in the contract"])
    assert "has no claim of its name" in said


def test_an_unknown_kernel_is_no_proof(project):
    (project / "conftest.py").write_text('pytest_plugins = ["signoff.plugin"]\n')
    code, found, _, _ = run(project, ATTACK + WORKS)
    assert (code, found["kernel"], found["tier"]) == (2, None, None)
    assert "not identified" in found["problems"][0]


def test_mode_plain_says_loudly_that_it_is_no_signoff(project):
    code, found, _, said = run(
        project,
        ATTACK.replace("CONTROL, SUBJECT", "PLAIN").replace("subject=SUBJECT, control=CONTROL", "subject=PLAIN")
        + WORKS,
        "--mode",
        "plain",
    )
    assert (code, found["verdict"], found["mode"]) == (0, "CONTROLS HOLD", "plain")
    assert "no sign-off" in said
    assert "no sign-off" in (project / "reports" / "latest" / "signoff.html").read_text()


def test_unit_tests_alone_leave_nothing_behind(project):
    (project / "conftest.py").write_text('pytest_plugins = ["signoff.plugin"]\n')
    code, found, _, _ = run(project, ATTACK + WORKS, "tests_unit")
    assert (code, found) == (0, None)
    assert run(project, ATTACK + WORKS, "-k", "test_other")[:2] == (0, None)
    assert not (project / "reports").exists()


def test_a_failing_unit_test_beside_good_claims_is_not_0(project):
    (project / "tests_unit" / "test_other.py").write_text("def test_other(): assert 0\n")
    code, found, _, said = run(project, ATTACK + WORKS)
    assert (code, found["exit_code"]) == (1, 0)
    assert "other tests of this session failed" in said


def test_a_contract_with_a_fault_names_it(project):
    (project / "tests_e2e" / "contract.toml").write_text(CONTRACT.replace('"EFAULT"', '"EFALUT"'))
    code, found, _, said = run(project, ATTACK + WORKS)
    assert (code, found) == (2, None)
    assert "contract.toml:3: host_cannot_read: protected: errno: there is no EFALUT" in said


GIVES_UP = """
import pytest

@pytest.fixture
def machines():
    pytest.exit("the set-up failed: kernel: no such tree\\n  next: look", returncode=2)

def test_host_cannot_read(claim, machines):
    pass
"""


def test_a_set_up_that_failed_is_told_at_each_claim(project):
    code, found, claims, said = run(project, GIVES_UP + WORKS)
    why = "the set-up failed: kernel: no such tree\n  next: look"
    assert (code, found["verdict"]) == (2, "NOT PROVEN")
    assert (claims["host_cannot_read"]["status"], claims["host_cannot_read"]["why"]) == ("ERROR", why)
    assert (claims["guest_works"]["status"], claims["guest_works"]["why"]) == ("MISS", f"not run: {why}")
    assert found["problems"][0] == "the set-up failed: kernel: no such tree"
    assert "the set-up failed: kernel: no such tree" in found["summary"]
    assert "interrupted" not in found["summary"]
    assert "MISS   guest_works\n       not run: the set-up failed: kernel: no such tree\n" in said


def test_a_set_up_that_fails_after_a_fail_does_not_hide_it(project):
    text = ATTACK.replace("SUBJECT, control", "[refused(p, errno='EPERM') for p in Page], control")
    code, found, claims, _ = run(project, text + GIVES_UP.replace("test_host_cannot_read", "test_guest_works"))
    assert (code, found["verdict"]) == (1, "NOT PROTECTED")
    assert claims["guest_works"]["status"] == "ERROR"


def test_a_broken_test_file_is_not_proven(project):
    (project / "tests_e2e" / "test_broken.py").write_text("import nothing_of_that_name\n")
    code, _, claims, _ = run(project, ATTACK + WORKS)
    assert (code, claims["guest_works"]["why"]) == (2, "not run: interrupted")


HANG = "    import pathlib, time; pathlib.Path('ready').touch(); time.sleep(60)\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_cut_short_still_has_a_report_and_exits_2(project, how):
    (project / "tests_e2e" / "test_claims.py").write_text(ATTACK + WORKS.replace("    claim.", f"{HANG}    claim."))
    with subprocess.Popen(
        command(), cwd=project, env=ALONE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        poll_until((project / "ready").exists, Deadline(60), "the second claim's test to begin")
        os.kill(process.pid, how)
        code = process.wait(timeout=60)
    folder = next(path for path in (project / "reports").iterdir() if not path.is_symlink())
    if how is signal.SIGKILL:
        assert not (folder / "signoff.json").exists()
        code = subprocess.run([sys.executable, "-m", "signoff", folder], cwd=PROJECT, check=False, stdout=-3).returncode
    found = json.loads((folder / "signoff.json").read_text())
    claims = {one["id"]: one for one in found["claims"]}
    assert (code, found["exit_code"], found["verdict"]) == (2, 2, "NOT PROVEN")
    assert claims["host_cannot_read"]["status"] == "PASS"
    assert claims["guest_works"]["status"] == ("ERROR" if how is signal.SIGINT else "MISS")
    assert how is signal.SIGKILL or whole(folder)
    assert (folder / "signoff.html").exists()


def test_the_options_stand_under_one_heading(project):
    said = run(project, ATTACK, "--help")[3]
    assert "--mode={protected,plain}" in said or "--mode={plain,protected}" in said
    assert said.index("sealproof:") < said.index("--reports=DIR")
