#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: junit-report-merger 9.0.4 (npm).
# Guess: merging moves test cases; the text of a message is afterwards what it was.
# Seen: text is decoded twice. A message that has "&lt;" in it, written as "&amp;lt;", has "<" afterwards, and "&amp;"
#       is "&". Where a test printed "&#27;" the merged report has the control character itself: no XML parser reads it.
#       The status is 0.
# Matters: messages of tests of escaping, of XML and of consoles: a failure shows two equal strings, or the report of
#          all jobs is lost to one message. To merge is otherwise the last step, so nothing behind it notices.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

npm install --silent --no-fund --no-audit junit-report-merger@9.0.4 > /dev/null

cat > probe.py <<'END'
import subprocess
import xml.etree.ElementTree as ET

MESSAGES = ("<b> is not &lt;b&gt;", "a &amp; b", "a & b", "the guest printed &#27;[0m")


def message(path):
    try:
        return ET.parse(path).find(".//failure").text
    except ET.ParseError as error:
        return "no XML, " + str(error).split(":")[0]


for text in MESSAGES:
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", name="console", tests="1", failures="1", errors="0", skipped="0")
    case = ET.SubElement(suite, "testcase", classname="console", name="escapes")
    ET.SubElement(case, "failure", message="differs").text = text
    ET.ElementTree(suites).write("in.xml", encoding="UTF-8", xml_declaration=True)
    assert message("in.xml") == text
    command = ["node_modules/.bin/jrm", "out.xml", "in.xml"]
    status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    print(f"{text}  ->  {message('out.xml')}  (status {status})")
END
python3 probe.py > seen

cat > noted <<'END'
<b> is not &lt;b&gt;  ->  <b> is not <b>  (status 0)
a &amp; b  ->  a & b  (status 0)
a & b  ->  a & b  (status 0)
the guest printed &#27;[0m  ->  no XML, not well-formed (invalid token)  (status 0)
END
if ! diff -u noted seen; then
    echo 'CHANGED: junit-report-merger decodes text in another way' >&2
    exit 1
fi
cat seen
