#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: cunit-to-junit 0.1.0 (PyPI), on reports of CUnit 2.1-3 (Debian 12).
# Guess: a suite whose initialization failed is an error or a failure in the JUnit report, or its tests are skipped.
# Seen: it is not in the report at all, if any other suite ran: 1 test, which passed, and the converter's status is 0.
#       The suite's two tests, which CUnit's summary counts, are missing, too. A test with two failed assertions is two
#       tests of the same name, though CUnit counts one.
# Matters: a suite without its device cannot start: the report is green, and the count of tests is another one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cunit-to-junit==0.1.0
apt-get -qq -o APT::Sandbox::User=root download libcunit1-dev=2.1-3-dfsg-2.6
dpkg -x ./*.deb root

cat > tests.c <<'END'
#include <CUnit/Automated.h>

static int finds_no_device(void)
{
    return 1;
}

static void passes(void)
{
    CU_ASSERT(1);
}

static void fails_twice(void)
{
    CU_ASSERT(0);
    CU_ASSERT(1 == 2);
}

int main(int argc, char **argv)
{
    CU_pSuite suite;

    CU_initialize_registry();
    suite = CU_add_suite("pages", NULL, NULL);
    CU_add_test(suite, "reads", argc > 2 ? fails_twice : passes);
    if (argc == 2) {
        suite = CU_add_suite("devices", finds_no_device, NULL);
        CU_add_test(suite, "opens", passes);
        CU_add_test(suite, "closes", passes);
    }
    CU_set_output_filename(argv[1]);
    CU_automated_run_tests();
    return 0;
}
END
gcc -I root/usr/include -o tests tests.c root/usr/lib/x86_64-linux-gnu/libcunit.a

cat > show.py <<'END'
import sys
import xml.etree.ElementTree as ET

for record in ET.parse(f"{sys.argv[1]}-Results.xml").iter("CUNIT_RUN_SUMMARY_RECORD"):
    print("CUnit:", " ".join(f"{element.tag} {element.text.strip()}" for element in record))
for suite in ET.parse(f"{sys.argv[1]}.xml").iter("testsuite"):
    print("JUnit:", {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")})
    for case in suite.iter("testcase"):
        print(" ", case.get("classname"), case.get("name"), "passed" if case.find("failure") is None else "failed")
END
./tests suite
./tests assertions two
for name in suite assertions; do
    status=0
    venv/bin/cunit-to-junit "$name-Results.xml" "$name.xml" > messages 2>&1 || status=$?
    echo "$name: status $status"
    python3 show.py "$name"
done > seen

cat > noted <<'END'
suite: status 0
CUnit: TYPE Suites TOTAL 2 RUN 1 SUCCEEDED - NA - FAILED 1 INACTIVE 0
CUnit: TYPE Test Cases TOTAL 3 RUN 1 SUCCEEDED 1 FAILED 0 INACTIVE 0
CUnit: TYPE Assertions TOTAL 1 RUN 1 SUCCEEDED 1 FAILED 0 INACTIVE n/a
JUnit: {'tests': '1', 'failures': '0', 'errors': '0', 'skipped': '0'}
  pages reads passed
assertions: status 0
CUnit: TYPE Suites TOTAL 1 RUN 1 SUCCEEDED - NA - FAILED 0 INACTIVE 0
CUnit: TYPE Test Cases TOTAL 1 RUN 1 SUCCEEDED 0 FAILED 1 INACTIVE 0
CUnit: TYPE Assertions TOTAL 2 RUN 2 SUCCEEDED 0 FAILED 2 INACTIVE n/a
JUnit: {'tests': '2', 'failures': '2', 'errors': '0', 'skipped': '0'}
  pages reads failed
  pages reads failed
END
if ! diff -u noted seen; then
    echo 'CHANGED: cunit-to-junit converts suites or assertions in another way' >&2
    exit 1
fi
cat seen
