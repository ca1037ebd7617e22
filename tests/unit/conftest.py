# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings of hypothesis: a busy machine makes no example wrong, however long it takes. And signals are as usual."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("sealproof", deadline=None)
settings.load_profile("sealproof")

# A shell has what it starts with "&" ignore Ctrl-C, and all that this starts in turn, the programs of the tests too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# And nohup has it ignore the end of its terminal.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
