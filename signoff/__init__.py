# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes it a proof: observations, contract, verdict, evidence and report. Knows no machine.

Data flows one way through the modules, and imports follow it::

    hidden         a canary's bytes in another form, or few of them
    observation    the bare facts of one probe run, and the canary that they are compared with
    host_facts     what an outcome may depend on
    outcome        how a probe must end, and on which hosts
    contract       claim x mode -> exact outcome
    contract_files its folder, and what names it
    verdict        one claim: observations + contract -> PASS, FAIL, MISS
    overall        all claims -> one word and the exit code
    record         what was tested, on what, how to repeat it
    results        one claim's line in the run's journal
    fleet          a run that was merged: which machine said what, and what differs between them
    journal        what was done when: a hash chain
    keys           the keys that sign reports
    evidence       the run's folder on disk
    report/        the folder's content -> signoff.html, signoff.json, junit.xml, the terminal
    merge          many runs -> one
    attestation    a run's folder, signed and verified
    surroundings   what changes pytest from outside
    trial          what a claim's test holds in its hand
    plugin         pytest drives it all
"""
