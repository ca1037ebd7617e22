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
    run         one run's folder -> the status of each claim, derived from the evidence
    fleet       many runs' folders -> the status of each claim
    exports     signoff.json and the statement, held against what was derived
    forms       junit.xml and the other forms for programs, made anew and compared
    page        signoff.html, held against what was derived
    report      all of it, and what the reader trusts
    __main__    the command line, and one screen of words
"""
