# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks a sealproof report, and trusts nobody who made it. It shares no code with sealproof: copy this folder, run it.

It needs Python 3.11 and the package ``cryptography``. Imports follow the data::

    tree        a folder or an archive, input from strangers -> files
    text        JSON, numbers, words: read strictly, shown safely
    signature   who signed which bytes
    rows        for which hosts an outcome differs
    contract    what is claimed, and what each claim must be
    leaks       a canary's bytes in what an attacker got
    judge       the observations of one claim -> its status
    sweeps      what a sweep of all pages brought -> how each page fared
    bounds      what a run says in words of its own, and the form of them
    run         one run's folder -> the status of each claim, derived from the evidence
    words       what each page says, whatever the run
    markup      pieces of the page
    machines    the machines of a merged report on the page
    merged      what a merged report says of its parts, made anew
    fleet       many runs' folders -> the status of each claim
    verdict     what a report says of the whole run
    exports     signoff.json and the statement, held against what was derived
    forms       junit.xml and the other forms for programs, made anew and compared
    tries       a claim's probes and checks on the page
    picture     guests' memory on the page
    threats     the table of threats on the page
    page        signoff.html, made anew and compared
    report      all of it, and what the reader trusts
    __main__    the command line, and one screen of words
"""
