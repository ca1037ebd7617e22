# SPDX-License-Identifier: GPL-2.0-or-later
"""How a probe must end, to the letter; and the rows that state it for some hosts."""

from __future__ import annotations

import errno
import re
import signal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from common import releases
from common.ending import Ending
from signoff.host_facts import Accelerator, HostFacts, Vendor
from signoff.observation import PAGE_SIZE, After


def _known_range(text: str) -> str:
    if not releases.meet(text):
        raise ValueError(f"no release lies in {text}")
    return "".join(text.split())


KernelRange = Annotated[str, AfterValidator(_known_range)]
"""A range of releases, such as ``>=6.2,<6.8``, without blanks."""

_SI_CODE = re.compile(r"(BUS|SEGV|ILL|TRAP|FPE|SI)_[A-Z]+")


class Outcome(BaseModel):
    """What a probe's run must be, exactly. A field that is not stated must be absent from the run.

    :ivar leak: canary bytes that the attacker gets: ``none``, ``page`` (all 4,096) or a number.
    :ivar page_after: what the guest must find; not stated: not looked at, or intact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    returned: int | None = None
    errno: str | None = None
    signal: str | None = None
    si_code: str | None = None
    leak: Literal["none", "page"] | Annotated[int, Field(ge=1, le=PAGE_SIZE)]
    page_after: Annotated[After | None, Field(strict=False)] = None

    @property
    def ending(self) -> Ending:
        """How the probe's call must end."""
        return Ending(self.returned, self.errno, self.signal, self.si_code)

    @property
    def leaked(self) -> int:
        """``leak`` as a number of bytes."""
        if isinstance(self.leak, int):
            return self.leak
        return PAGE_SIZE if self.leak == "page" else 0

    @property
    def reaches(self) -> bool:
        """Whether such a run has shown that the probe gets at the page."""
        return self.leaked > 0 or self.page_after is After.OVERWRITTEN

    @model_validator(mode="after")
    def _names_are_real(self) -> Outcome:
        if self.errno is not None and self.errno not in errno.errorcode.values():
            raise ValueError(f"errno: there is no {self.errno}")
        if self.errno is not None and self.returned != -1:
            raise ValueError("errno: a call that fails returns -1; state returned = -1")
        if self.errno is None and self.returned == -1:
            raise ValueError("errno: a call that returns -1 has one; state which")
        if self.signal is not None and self.signal not in signal.Signals.__members__:
            raise ValueError(f"signal: there is no {self.signal}")
        if (self.signal is None) != (self.si_code is None):
            raise ValueError("signal and si_code are stated together")
        if self.si_code is not None and not _SI_CODE.fullmatch(self.si_code):
            raise ValueError(f"si_code: {self.si_code} is not a name such as BUS_ADRERR")
        return self


class On(BaseModel):
    """A row: outcomes of a claim that differ on some hosts, and why. What it does not state is as the claim states it.

    :ivar kernel: a range of releases, such as ``>=6.16``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kernel: KernelRange | None = None
    vendor: Vendor | None = None
    accelerator: Accelerator | None = None
    source: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]
    plain: Outcome | None = None
    protected: Outcome | None = None
    shared: Outcome | None = None

    @model_validator(mode="after")
    def _states_something(self) -> On:
        if not self.words:
            raise ValueError("state for which hosts it is: kernel, vendor or accelerator")
        if not self.outcomes:
            raise ValueError("state which outcome differs: plain, protected or shared")
        return self

    @property
    def words(self) -> str:
        """Which hosts it is for, in a few words."""
        stated = (("kernel", self.kernel), ("vendor", self.vendor), ("accelerator", self.accelerator))
        return ", ".join(f"{name} {value}" for name, value in stated if value is not None)

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcomes that differ."""
        stated = {"plain": self.plain, "protected": self.protected, "shared": self.shared}
        return {name: outcome for name, outcome in stated.items() if outcome is not None}

    def fits(self, host: HostFacts) -> bool:
        """Whether it is for a host. What is not known of the host fits nothing."""
        return (
            (self.kernel is None or (host.kernel is not None and releases.fits(host.kernel, self.kernel)))
            and self.vendor in (None, host.vendor)
            and self.accelerator in (None, host.accelerator)
        )

    def overlaps(self, other: On) -> bool:
        """Whether both are for some host."""
        kernels = [row.kernel for row in (self, other) if row.kernel is not None]
        return (
            (not kernels or releases.meet(*kernels))
            and (self.vendor is None or other.vendor in (None, self.vendor))
            and (self.accelerator is None or other.accelerator in (None, self.accelerator))
        )
