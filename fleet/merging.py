# SPDX-License-Identifier: GPL-2.0-or-later
"""From parts to one signed report: the last step of whoever had a sign-off run in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.paths import config_root
from signoff.attestation import sign
from signoff.evidence import Evidence
from signoff.keys import fingerprint, own_key, put_key, signer_of
from signoff.merge import merge
from signoff.report import write
from signoff.report.terminal import lines


def sign_merged(
    parts: Mapping[Path, float],
    reports: Path,
    command: str,
    say: Callable[[str], None],
    *,
    keys: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
    durations: Mapping[str, float] | None = None,
) -> int:
    """Merge parts, write the reports, sign them; returns the verdict's exit code.

    :param parts: their folders, and how long each took in seconds (0: not known). :param command: repeats all of it.
    :param keys: fingerprints of the keys by which machines sign, by their names; empty: each key is taken, and told.
    :param problems: what makes the whole no proof, beside what the parts say. :param durations: seconds, by what.
    :raises UserInputError: if the parts cannot be merged.
    """
    folder = merge(parts, reports, command=command, problems=problems, durations=durations, keys=keys or {})
    key = own_key(config_root())
    put_key(folder, key)
    report = write(folder)
    sign(folder, key)
    link = Evidence(folder).publish()
    for line, _ in lines(report, folder, 100):
        say(line)
    if link:
        say(link)
    own = fingerprint(key.public_key())
    say(f"signed by the key {own}")
    for other in sorted({signer_of(part) for part in (folder / "parts").iterdir()} - {own, ""}):
        say(f"a part is signed by the key {other}: a reader names it as well (--key), from who ran that machine")
    return report.overall.exit_code
