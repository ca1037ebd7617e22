# SPDX-License-Identifier: GPL-2.0-or-later
"""A sign-off spread over machines by Avocado, and its parts merged into one signed report.

Avocado is the engine: it queues, spawns, watches and stores. These are its plugins, and the commands around it::

    groups      which claims make one Avocado test: those of a file, as they share a host
    only        a pytest plugin that keeps one slice of a file's claims
    resolver    'avocado run "sealproof:tests_e2e -k ptrace"': from a reference to Avocado tests
    runner      runs such a test where a spawner put it, and delivers the run's folder
    machines    machines that are reached by SSH, as Avocado's remote spawner wants them
    job         Avocado jobs until no claim is lost any more; the parts out of their results
    speedup     what more machines would bring, computed from measured parts
    __main__    python -m fleet run | merge | speedup
"""
