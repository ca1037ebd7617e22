# SPDX-License-Identifier: GPL-2.0-or-later
"""A second signature on a report, by a key that its readers know already: the signer's own SSH key."""

from __future__ import annotations

import subprocess
from pathlib import Path

from common.environment import environment
from common.errors import SetupError, UserInputError
from signoff.evidence import ATTESTATION, SSH_SIGNATURE

NAMESPACE = "sealproof"
TIMEOUT = 120  # an agent may ask its user


def sign(folder: Path, key: Path) -> Path:
    """Sign a report that has its first signature; returns the signature's path.

    :param key: an SSH key, or the public half of one that an agent holds. One with a passphrase needs the agent.
    :raises UserInputError: there is no such key, or no passphrase. :raises SetupError: there is no ``ssh-keygen``.
    """
    path = folder / SSH_SIGNATURE
    path.unlink(missing_ok=True)  # else ssh-keygen asks whether it may write there
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key), str(folder / ATTESTATION)]
    try:
        # In a session of its own it has no terminal, and asks for no passphrase there.
        done = subprocess.run(
            argv,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise SetupError("ssh-keygen is not installed", stage="sign", hint="apt-get install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise UserInputError(f"ssh-keygen did not sign within {TIMEOUT} s", stage="sign") from error
    if done.returncode != 0 or not path.is_file():
        raise UserInputError(
            f"ssh-keygen did not sign with {key}: {done.stderr.strip() or 'no reason given'}",
            stage="sign",
            hint="put a key with a passphrase into an agent (ssh-add); its public half may name it",
        )
    return path
