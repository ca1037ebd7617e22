#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Tool: lib4sbom 0.10.4 (PyPI), which sbomdiff uses: SPDX 2.3 to CycloneDX.
# Guess: "A is a DEPENDENCY_OF B" becomes "B depends on A"; a choice of two licences is kept, or there is a warning.
# Seen: CycloneDX says that A depends on B, the reverse. "DEPENDS_ON" is right. A licence "GPL-2.0-only OR MIT", or AND,
#       is UNKNOWN when it is read, and in CycloneDX the component has no licence; one with an exception, by WITH, is
#       kept. A supplier gives each component a CPE in CycloneDX, though the SPDX document has none.
# Matters: who asks what a host's kernel or QEMU pulls in: tools that write SPDX use DEPENDENCY_OF as well.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check lib4sbom==0.10.4

cat > probe.py <<'END'
import json

from lib4sbom.generator import SBOMGenerator
from lib4sbom.parser import SBOMParser

PACKAGES = {
    "qemu": "GPL-2.0-only OR MIT",
    "linux": "GPL-2.0-only WITH Linux-syscall-note",
    "edk2": "BSD-2-Clause AND MIT",
    "glib": "MIT",
    "zlib": "Zlib",
}
RELATIONS = (("DOCUMENT", "DESCRIBES", "qemu"), ("qemu", "DEPENDS_ON", "glib"), ("zlib", "DEPENDENCY_OF", "qemu"))
document = {
    "spdxVersion": "SPDX-2.3",
    "dataLicense": "CC0-1.0",
    "SPDXID": "SPDXRef-DOCUMENT",
    "name": "host",
    "documentNamespace": "https://example.com/host",
    "creationInfo": {"created": "2026-01-01T00:00:00Z", "creators": ["Tool: sample"]},
    "packages": [
        {
            "SPDXID": f"SPDXRef-{name}",
            "name": name,
            "versionInfo": "1",
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": licence,
            "supplier": "Organization: Example",
        }
        for name, licence in PACKAGES.items()
    ],
    "relationships": [
        {"spdxElementId": f"SPDXRef-{a}", "relationshipType": kind, "relatedSpdxElement": f"SPDXRef-{b}"}
        for a, kind, b in RELATIONS
    ],
}
with open("host.spdx.json", "w", encoding="ascii") as file:
    json.dump(document, file)

parser = SBOMParser()
parser.parse_file("host.spdx.json")
generator = SBOMGenerator(sbom_type="cyclonedx", format="json")
generator.generate("host", parser.get_sbom(), send_to_output=False)
read = {package["name"]: package["licenseconcluded"] for package in parser.get_packages()}
written = generator.get_sbom()
for component in written["components"]:
    licences = [entry["license"].get("id", entry["license"].get("name")) for entry in component.get("licenses", ())]
    print(component["name"], "|", read[component["name"]], "|", licences, "|", component.get("cpe"))
for dependency in written["dependencies"]:
    print(dependency["ref"], "depends on", *dependency["dependsOn"])
END
venv/bin/python probe.py > seen

cat > noted <<'END'
qemu | UNKNOWN | [] | cpe:/a:Example:qemu:1
linux | GPL-2.0-only WITH Linux-syscall-note | ['GPL-2.0-only WITH Linux-syscall-note'] | cpe:/a:Example:linux:1
edk2 | UNKNOWN | [] | cpe:/a:Example:edk2:1
glib | MIT | ['MIT'] | cpe:/a:Example:glib:1
zlib | Zlib | ['Zlib'] | cpe:/a:Example:zlib:1
CDXRef-DOCUMENT depends on SPDXRef-qemu
SPDXRef-qemu depends on SPDXRef-glib
SPDXRef-zlib depends on SPDXRef-qemu
END
if ! diff -u noted seen; then
    echo 'CHANGED: lib4sbom reads or writes a bill of materials in another way' >&2
    exit 1
fi
cat seen
