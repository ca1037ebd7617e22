# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from types import SimpleNamespace

from host_setup.hosts.facts import facts, read

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold 6338
flags\t\t: fpu vmx smep smap avx2
vmx flags\t: vnmi ept vpid
processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu
kvm
vhost-net
"""


def test_vendor_model_features_and_devices_are_read() -> None:
    assert read(INTEL) == {
        "processor": "GenuineIntel, Intel(R) Xeon(R) Gold 6338",
        "features": "vmx, ept, vpid, vnmi, smep, smap, avx2",
        "devices": "kvm, vhost-net",
    }


def test_what_is_not_said_is_unknown() -> None:
    assert read("") == {
        "processor": "unknown, unknown",
        "features": "none that matter here",
        "devices": "none that matter here",
    }


def test_a_session_is_asked_once() -> None:
    calls = []

    class Session:
        def run(self, argv: list[str], *, seconds: float) -> SimpleNamespace:
            calls.append((argv[:2], seconds))
            return SimpleNamespace(require=lambda: SimpleNamespace(text=INTEL))

    session = Session()
    assert facts(session) == facts(session)
    assert len(calls) == 1
