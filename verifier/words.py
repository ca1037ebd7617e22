# SPDX-License-Identifier: GPL-2.0-or-later
"""The words that each page has, whatever the run: what statuses, tiers, kinds and classes of claims mean."""

from __future__ import annotations

NO_SIGNOFF = "This is not a sign-off: mode plain only checks that the probes succeed where nothing protects the guest."
SYMBOLS = {"PASS": "✓", "FAIL": "✗", "ERROR": "!", "MISS": "?", "SKIP": "»"}
MEANING = {
    "PASS": "Refused (or right) exactly as contracted; an attack got through in both of its controls.",
    "FAIL": "The guest's bytes leaked or were changed, or the outcome is not the contract's.",
    "ERROR": "The harness broke. Nothing is known about the claim.",
    "MISS": "Not run, or run without what makes it a proof. Never counts as PASS.",
    "SKIP": "Cannot apply here, for the reason given.",
}
EXITS = {
    0: "every claim PASS",
    1: "at least one claim FAIL",
    2: "not proven: a claim is ERROR or MISS, or the run was interrupted",
}
FATES_MEAN = {
    "leaked": "private to the guest, but the host read it",
    "lost": "not private to the guest, but the host was refused",
    "shared": "shared by the guest, and readable",
    "readable": "never made private, and readable: a page of a plain guest, or content from the VMM",
    "private": "private to the guest, and the host was refused",
    "absent": "the host has no page there: the guest has not touched it",
}
TIERS = {
    "emulated": (
        (
            "the logic of the real kernel and the real QEMU: page tables, error paths, which access is refused and "
            "how. Processor and firmware are QEMU's model of them."
        ),
        "speculative execution, caches, timing and speed; the behaviour of real processors, IOMMUs and devices.",
    ),
    "nested": (
        "the logic of the real kernel and the real QEMU on a real processor, beneath another hypervisor.",
        (
            "what the hypervisor beneath hides or changes: nested paging in hardware, IOMMU and devices, speculation "
            "across its exits; speed."
        ),
    ),
    "bare-metal": (
        "the logic of the real kernel and the real QEMU on this processor and these devices.",
        "other processor models, steppings, microcode and devices; that speculative attacks without a probe here fail.",
    ),
}
"""What a run on a host of a tier shows, and what it does not."""
KINDS = {
    "attack": ("Attacks", "Each must be refused, exactly as the contract says."),
    "boundary": ("Boundaries", "Paths that are documented to be open. Each must be exactly as open as documented."),
    "oracle": (
        "All of the memory",
        "Every page of each guest was tried. Exactly the pages that the guest shares must be readable.",
    ),
    "legitimate": ("Legitimate paths", "Each must keep working."),
    "health": ("Health", "Nothing may break in host or guest during the run."),
}
PROBES = ("attack", "boundary")
PLAIN_PROBES = "The controls of the named claims: in a guest without protection each probe must succeed."
CLASSES = {
    "host-user": (
        "Host user space",
        "A compromised VMM reads or writes guest memory with its own loads and stores, through its own mapping.",
    ),
    "kernel-user-copy": (
        "Host kernel, induced, by user copy",
        "A system call makes the host kernel copy from or to the VMM's mapping (copy_from_user, copy_to_user).",
    ),
    "kernel-gup": (
        "Host kernel, induced, by get_user_pages",
        "A system call makes the host kernel look up the page behind the VMM's mapping and use it.",
    ),
    "kernel-address": (
        "Host kernel, by its own address",
        "Code in the host kernel reads the page where the kernel itself maps it, as a stray pointer or a reader does.",
    ),
    "kvm": ("Through KVM", "The VMM uses KVM's own interface to get at guest memory."),
    "memory-management": (
        "Through memory management",
        "The host moves, merges, swaps, copies or frees the page, and its bytes go along.",
    ),
    "compromise": (
        "Full compromise and hardware",
        "An attacker who runs arbitrary code in the host kernel, or owns a device: documented to be open.",
    ),
    "emulation": ("Instruction emulation", "KVM reads and writes guest memory to carry out an instruction."),
    "guest-memory": (
        "Memory management of the guest",
        "KVM walks the guest's page tables and keeps its state in its memory, in every mode of the processor.",
    ),
    "paravirtual": ("Paravirtual interfaces", "KVM and the guest share data: clock, steal time, hypercalls."),
    "devices": ("Devices", "QEMU's devices move data to and from the guest."),
    "guest-life": ("Life of a guest", "Boot, reset, stop, memory that comes and goes, the end."),
    "no-collateral": ("No collateral", "The host's kernel does for everybody else what the stock kernel does."),
    "health": ("Host and guest", "Nothing broke in the host or in the guest while all this was tried."),
}
