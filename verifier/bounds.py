# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run says in words of its own, and the form of them: facts of the host, names, what was aimed where.

No evidence decides most of these words, and readers see them. So each has a form that leaves no room for another claim,
and what the evidence does say of it must agree: the kernel's log, the flags of a mapping.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from verifier.text import legible

FEATURES = (
    *("svm", "npt", "nrip_save", "vgif", "avic", "decodeassists", "flushbyasid", "pausefilter", "sev", "sev_es"),
    *("vmx", "ept", "vpid", "ept_ad", "vnmi", "flexpriority", "tdx_host_platform"),
    *("smep", "smap", "pku", "la57", "avx", "avx2", "avx512f"),
)
DEVICES = ("kvm", "vhost-net", "vhost-vsock", "vfio/vfio", "sev", "iommu", "userfaultfd")
LAYERS = ("intel", "debug", "numa", "virtme", "selftests", "remote", "coverage")
MADE_OF = (
    *("sealproof's files", "Python and its packages", "emulator", "root file system", "payload", "payload's files"),
    *("guest image", "programs", "modules"),
)
OPTIONS = (
    *("-c", "--config-file", "-o", "--override-ini", "--rootdir", "--confcutdir", "--noconftest", "--import-mode"),
    "@",
)
"""Of pytest, that choose other settings or other code: a run that has one names it among its problems. @: a file."""
_NOTHING = (
    *("--collect-only", "--co", "--dry-run", "--help", "-h", "--version", "-V", "--fixtures", "--funcargs"),
    *("--fixtures-per-test", "--markers", "--cache-show", "--setup-plan"),
)
"""Options with which pytest tries no claim."""
_OURS = ("signoff.plugin", "host_setup.plugin", "host_setup.coverage.plugin", "fleet.only")
"""Plugins that a command may load; without one of them by name (no:) it may do."""
_STOCK = "stock"
_NONE = "none that matter here"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_MACHINE = rf"{_NAME}(?: \([0-9A-Fa-f:.]{{2,45}}(?:%[a-z0-9]{{1,15}})?:[0-9]{{1,5}}\))?"  # and where SSH reached it
_MODEL = r"[A-Za-z0-9][A-Za-z0-9 ()@.,/+_-]{0,47}"  # CPUID has 48 bytes for it
_GUEST = r"[a-z][a-z0-9-]{0,39}"
_HOST = {
    "kind": r"emulated \((?:QEMU TCG, SVM, nested paging|Bochs, VMX, EPT)\)|nested \(QEMU on KVM, (?:svm|vmx)\)"
    r"|(?:real machine|machine in [a-z0-9-]{1,30}), by SSH and (?:kexec|grub|systemd-boot)",
    "emulator": r"Bochs x86 Emulator [0-9][0-9.]{0,15}",  # QEMU has no name: its files have their hash
    "machine": _NAME,
    "machines": r".{1,4000}",  # held against the parts
    "cpu": rf"(?:[a-z0-9-]+(?:,[a-z0-9_.-]+=[a-z0-9]+)*|{_MODEL}|)",
    "cpus": r"(?:[0-9]{1,4}|)",
    "memory": r"[0-9]{1,9} MiB",
    "guests": rf"{_GUEST} \([1-9][0-9]{{0,6}} MiB\)(?:, {_GUEST} \([1-9][0-9]{{0,6}} MiB\))*",
    "qemu of the host and the guest": r"[A-Za-z0-9.:+~-]{1,64}",
    "qemu of the guest": r"[A-Za-z0-9.:+~-]{1,64}",
    "own kernel": r"[A-Za-z0-9.+~_-]{0,64}",
    "command line": r".{0,2048}",  # held against the kernel's log
    "started": r"cold|restored",
    "processor": rf"(?:[A-Za-z]{{1,12}}|unknown), (?:{_MODEL}|unknown)",
}
"""What a record may say of the host."""
_OF_KIND = {
    "SVM": ("svm", ("AMD", "Hygon")),
    "VMX": ("vmx", ("Intel",)),
}
"""What a kind of host has: the processor's feature, and who made it, as the kernel says it."""
_NEVER_EMULATED = {"sev", "sev_es", "tdx_host_platform"}
_LISTED = {"features": FEATURES, "devices": DEVICES}
_TEXTS = {
    "series": r".{0,100}",
    "machine": rf"(?:{_MACHINE}(?:, from {_MACHINE})?|)",
    "commit": r"[0-9a-f]{40}(?:-dirty)?|[0-9a-f]{64}(?:-dirty)?|unknown",
    "command": r"(?:pytest|python -m fleet (?:run|merge)|sealproof signoff)(?: .{1,4080})?",
}
_OF_KERNEL = {
    "release": r"[0-9][A-Za-z0-9.+~_-]{0,63}",
    "compiler": r".{1,200}",  # held against the kernel's log
    "source": r"Linux (?P<release>[0-9][A-Za-z0-9.+~_-]{0,63}), (?:tarball|git tree|tree) .{1,400}",
}
_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel", "HygonGenuine": "Hygon"}
"""As the processor says it, and as the kernel does (Linux: arch/x86/kernel/cpu, c_vendor and c_ident)."""
_CPU = re.compile(r"(?:smpboot: CPU0|\bCPU): (.+) \(family: 0x")
_FEATURE_LINES = {
    "avx": "Supporting XSAVE feature 0x004: 'AVX registers'",
    "pku": "Supporting XSAVE feature 0x200: 'Protection Keys User registers'",
    "svm": "kvm_amd: Nested Paging enabled",
}
"""Features of a processor whose lack excuses a SKIP, and what a kernel says of one that has them (Linux:
arch/x86/kernel/fpu/xstate.c, arch/x86/kvm/svm/svm.c)."""
_CPUS = re.compile(r"Allowing ([0-9]{1,5}) (?:present )?CPUs"), 1, "CPUs to the kernel", "CPUs"
_MEMORY = re.compile(r"Memory: [0-9]{1,15}K/([0-9]{1,15})K available"), 1024, "KiB to the kernel", "MiB"
"""What a kernel says of its machine's size, and in which unit of the record's (Linux: arch/x86/kernel/cpu/topology.c,
mm/mm_init.c)."""
_COMMAND = re.compile(r"(?<![a-z] )Command line: (.*)$", re.MULTILINE)
_HOLDER = re.compile(rf"guest ({_GUEST}) holds it at guest-physical (0x[0-9a-f]+), before the probe and after")
_JOB = r"Avocado job [0-9]{1,4}(?: \(claims that were lost\))?|(?:1 run|[2-9] runs|[1-9][0-9] runs) at a time"
_LONGEST = 31 * 86400.0  # seconds of a job
_MAPPED = re.compile(
    r"its QEMU \(pid ([1-9][0-9]{0,6})\) has this page at (0x[0-9a-f]+), host-physical (0x[0-9a-f]+)"
)  # fmt: skip
_SMAPS = re.compile(
    r"/proc/([1-9][0-9]{0,6})/smaps: ([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-])[sp] [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [0-9]+ *"
    r"(?:/\S{0,200})?(?: \(deleted\))?; VmFlags:((?: [a-z0-9?]{2})*) *"
)
_KVM = re.compile(
    r"KVM of the guest's protection: enabled: (?P<enabled>[01]) private_pages: (?P<private>[0-9]{1,12})"
    r"(?: shared_pages: [0-9]{1,12} host_pages_out_of_direct_map: [0-9]{1,12})?"
)
_ONCE = {
    _HOLDER: "which guest holds it",
    _MAPPED: "where its QEMU has it",
    _SMAPS: "which mapping holds it",
    _KVM: "how KVM protects its guest",
}
_OF_ADDRESSES = ("SIGBUS", "SIGSEGV", "SIGTRAP")
"""Signals that come with the address of a fault."""
_HOLE = 4 << 30
"""Memory that does not lie below the devices' addresses lies from here on (QEMU: hw/i386/pc.c, pc_memory_init())."""
_USERS = 1 << 56
"""No process has an address from here on (Linux: Documentation/arch/x86/x86_64/5level-paging.rst)."""
_FRAME = r"a read of the frame at host-physical 0x[0-9a-f]+, which it left, met: (?:its bytes|E[A-Z0-9]{2,15})"
_CAME = "bytes of the page came"
_BYTES = "met: its bytes"
_FRAME_WORDS = {
    "frame": re.compile(_FRAME),
    "frames": re.compile(f"{_FRAME}; {_FRAME}"),
    "faults": re.compile(rf"{_CAME}|the host's CPUs took [1-9][0-9]{{0,8}} faults at the page"),
    "mapping": re.compile("the dump tells of the mapping"),
}
"""What else may show that a probe met its page, by the contract's word for it."""


def record(content: dict[str, Any]) -> Iterator[str]:
    """Where a record has a word that is none of its kind.

    :param content: of the form that a record has.
    """
    for name, form in _TEXTS.items():
        if not _is(form, content[name]) and (content["ended"] or content[name]):
            yield f"record.json: its {name} is {legible(content[name], 80)!r}, which no record says"
    for name, value in content["host"].items():
        if not _of_host(name, value):
            yield f"record.json: its host has {legible(name, 40)} {legible(value, 80)!r}, which no host has"
    if fault := _of_kind(content["host"]) or _of_command(content):
        yield f"record.json: {fault}"
    for name in sorted(set(content["made_of"]) - set(MADE_OF)):
        yield f"record.json: it is made of {legible(name, 60)}, which no run is"
    for name, seconds in content.get("durations", {}).items():
        if not _is(_JOB, name):
            yield f"record.json: its durations have {legible(name, 60)}, which no run has"
        elif seconds > _LONGEST:
            yield f"record.json: {name} took {legible(seconds, 40)} s, and no job may take more than {_LONGEST:.0f}"
    for name, form in _OF_KERNEL.items() if content["kernel"] else ():
        if not _is(form, content["kernel"][name]):
            yield f"record.json: the kernel's {name} is {legible(content['kernel'][name], 80)!r}, which no record says"
    for patch in content["kernel"]["patches"] if content["kernel"] else ():
        if not isinstance(patch["name"], str) or not _is(r"\S{1,200}", patch["name"]):
            yield f"record.json: a patch has the name {legible(patch['name'], 80)!r}, which no patch has"
    if content["kernel"] and (match := re.fullmatch(_OF_KERNEL["source"], content["kernel"]["source"])):
        of = match["release"]
        if not re.match(re.escape(of) + r"(?![\w.])", content["kernel"]["release"]):
            yield f"record.json: its source is Linux {legible(of, 40)}, and its kernel {content['kernel']['release']}"


def _is(form: str, text: str) -> bool:
    return text.isprintable() and re.fullmatch(form, text) is not None


def _of_host(name: str, value: str) -> bool:
    if name in _LISTED:
        there = value.split(", ")
        return value == _NONE or there == [word for word in _LISTED[name] if word in there]
    if name == "kernel's layers":
        return value == "none" or set(value.split(", ")) <= set(LAYERS)
    return name in _HOST and _is(_HOST[name], value)


def _of_kind(host: dict[str, str]) -> str:
    """Where what is said of a host is not that of its kind; empty if it is."""
    kind = host.get("kind", "")
    if kind.startswith("emulated (Bochs") is not host.get("emulator", "").startswith("Bochs "):
        return f"its host is {legible(kind, 60)}, and its emulator {legible(host.get('emulator', 'another'), 60)}"
    for word, (feature, vendors) in _OF_KIND.items():
        if not re.search(rf"\b{word}\b", kind, re.IGNORECASE):
            continue
        vendor = host.get("processor", "").partition(",")[0]
        if vendor in _VENDORS and _VENDORS[vendor] not in vendors:
            return f"its host is {legible(kind, 60)}, and its processor of {vendor}"
        if "features" in host and feature not in host["features"].split(", "):
            return f"its host is {legible(kind, 60)}, and its processor has no {feature}"
    if kind.startswith("emulated"):
        there = {*host.get("features", "").split(", "), *host.get("devices", "").split(", ")}
        if strange := sorted(there & _NEVER_EMULATED):
            return f"its host is emulated, and has {strange[0]}, which no emulator has"
        tcg = "QEMU TCG CPU" in host.get("processor", "")
        if host.get("cpu") and tcg and not re.match(r"(?:max|base)\b", host["cpu"]):
            return f"its processor is {legible(host['processor'], 60)}, and its cpu {legible(host['cpu'], 40)}"
    if "own kernel" in host and "machine" not in host:
        return "it has a kernel of its own beside the one under test, as real machines alone have"
    return ""


def _of_command(content: dict[str, Any]) -> str:
    """Where a command is not that of a run that has no problem, or of another run; empty if it is."""
    try:
        words = shlex.split(content["command"])
    except ValueError:
        return ""
    pairs = [_option(word, after) for word, after in zip(words, [*words[1:], ""], strict=True)]
    options = [(name, value) for name, value in pairs if name]
    named = any("not a sign-off" in str(problem) for problem in content["problems"])
    if not named and (strange := sorted({name for name, _ in options} & {*OPTIONS})):
        return f"its command has the option {strange[0]}, and no problem names it"
    if not named and (
        foreign := [name for option, name in options if option == "-p" and name not in _OURS and name[:3] != "no:"]
    ):
        return f"its command loads the plugin {legible(foreign[0], 60)}, and no problem names it"
    if runs_nothing := sorted({name for name, _ in options} & {*_NOTHING}):
        return f"its command has the option {runs_nothing[0]}, with which no claim is tried"
    last = dict(options)
    if last.get("--mode", content["mode"]) != content["mode"]:
        return f"its command is of mode {legible(last['--mode'], 20)}, and its mode {content['mode']}"
    if last.get("--host") in ("emulated", "nested") and last["--host"] != content["tier"]:
        return f"its command is of a host that is {last['--host']}, and its tier {legible(content['tier'], 20)}"
    if last.get("--series") == _STOCK != content["series"]:
        return f"its command is of the series {_STOCK}, and its series {legible(content['series'], 40)}"
    return ""


def _option(word: str, after: str) -> tuple[str, str]:
    """The option that a word of a command is, and its value; empty if the word is no option."""
    if word.startswith("--"):
        name, _, value = word.partition("=")
        return name, value or after
    if word.startswith("@"):
        return "@", word[1:]
    # Of pytest's short options these take no value, so that others may stand behind them in one word.
    short = re.fullmatch(r"-[hlqsvx]*([a-zA-Z])(.*)", word)
    return (f"-{short[1]}", short[2] or after) if short else ("", "")


def place(host: dict[str, str], aim: dict[str, Any]) -> str:
    """Where an aim is at no page that its guest, its QEMU or its host can have; empty if it is at one.

    :param host: what the record says of it.
    """
    gpa, hva, hpa = (int(aim[name], 16) for name in ("gpa", "hva", "hpa"))
    if hva >= _USERS:
        return f"no process has an address like {hva:#x}"
    sizes = guest_sizes(host)
    for what, at, size in (
        ("guest", gpa, sizes.get(aim["guest"])),
        ("host", hpa, None if "machine" in host else memory_size(host)),
    ):
        if size is not None and not (at < size or _HOLE <= at < _HOLE + size):
            return f"its {what} has no memory at {at:#x}"
    return ""


def memory_size(host: dict[str, str]) -> int | None:
    """Bytes of the host's memory; None: the record does not tell them."""
    match = re.fullmatch(_HOST["memory"], host.get("memory", ""))
    return int(match[0].split()[0]) << 20 if match else None


def guest_sizes(host: dict[str, str]) -> dict[str, int]:
    """Bytes of each guest that the record names."""
    return {name: int(size) << 20 for name, size in re.findall(r"(\S+) \((\d+) MiB\)", host.get("guests", ""))}


def is_guest(name: object) -> bool:
    """Whether it is a guest's name."""
    return isinstance(name, str) and _is(_GUEST, name)


def processes(reach: Iterable[object]) -> set[str]:
    """Which processes an observation names as its QEMU."""
    return {match[1] for text in reach if (match := _MAPPED.fullmatch(str(text)))}


def kind_met(reach: Iterable[str]) -> str:
    """The contract's word for what a probe says that it met at its page; empty: it says nothing of that.

    :param reach: the texts of its observation.
    """
    return " | ".join(kind for text in reach for kind, form in _FRAME_WORDS.items() if form.fullmatch(text))


def is_compiler(compiler: str, banner: str) -> bool:
    """Whether a kernel's first line is of the compiler that a record names.

    :param compiler: what the compiler says of itself; of one that its user chose first its name, of clang last the
        linker.
    :param banner: compiler and linker, as the kernel has them.
    """
    by, *more = compiler.split("; ")
    if not more:
        return banner.startswith(f"{compiler},")
    linker = [part.partition(" (compatible with")[0] for part in more[1:]]
    named = re.fullmatch(r"[A-Za-z0-9/._+-]{1,200}", by) is not None and len(linker) < 2
    return named and banner.startswith(", ".join([more[0], *linker]) + ("" if linker else ","))


def log(host: dict[str, str], text: str) -> str:
    """Where the console of a host says of it another thing than the record; empty if it does not.

    :param host: what the record says. :param text: from the kernel's first line on.
    """
    vendor, _, model = host.get("processor", "").partition(", ")
    models = _CPU.findall(text)
    for words in models if model and model != "unknown" else ():
        if model not in " ".join(words.split()) and " ".join(model.split()) not in " ".join(words.split()):
            return f"its processor is {legible(words, 60)!r} to the kernel, and {legible(model, 60)!r} to the record"
        if _VENDORS.get(vendor, "") not in words:
            return f"its processor is {legible(words, 60)!r} to the kernel, and of {legible(vendor, 20)} to the record"
    features = host.get("features", "").split(", ")
    if hidden := [name for name, words in _FEATURE_LINES.items() if name not in features and words in text]:
        return f"it says {_FEATURE_LINES[hidden[0]]!r}, and the record's host has no {hidden[0]}"
    if "machine" in host:  # its log may begin late
        return ""
    if model and not models:
        return "it does not say which processor the host has"
    for (form, unit, seen, stated), size, low in (
        (_CPUS, host.get("cpus", ""), 1.0),
        (_MEMORY, host.get("memory", "").partition(" ")[0], 0.9),  # what the kernel leaves to firmware is not in it
    ):
        first = form.search(text)  # a kernel that another one boots in the same host has less
        if size.isdecimal() and first and not low <= int(first[1]) / unit / max(1, int(size)) <= 1.0:
            return f"it has {first[1]} {seen}, and the record's host {size} {stated}"
    if "command line" in host and host["command line"] not in _COMMAND.findall(text):
        return "no boot in it has the command line that the record names"
    return ""


def reach(probe: dict[str, Any], mode: str, patches: int) -> str:
    """What an observation says of its place that its aim does not bear out; empty if there is nothing.

    :param probe: of the form that an observation has. :param mode: of the run.
    :param patches: how many patches the kernel under test has.
    """
    aim, flags, kvm = probe["aim"], None, None
    pids: set[str] = set()
    forms: list[re.Pattern[str]] = []
    pages = (aim["gpa"], aim["hva"], aim["hpa"])
    if not _is(r"[0-9a-f]{32}", str(aim["host"])) or not is_guest(aim["guest"]):
        return "its host or guest has no name"
    for text in probe["reach"]:
        if not isinstance(text, str):
            return "what is said of its place is no text"
        forms += [form for form in _ONCE if form.fullmatch(text)]
        if match := _HOLDER.fullmatch(text):
            right = match.groups() == (aim["guest"], pages[0])
        elif match := _MAPPED.fullmatch(text):
            pids.add(match[1])
            right = match.groups()[1:] == pages[1:]
        elif match := _SMAPS.fullmatch(text):
            pids.add(match[1])
            right = [hex(int(word, 16)) for word in match.groups()[1:3]] == list(aim["mapping"])
            flags = match[5].split()
            right &= [name in flags for name in ("rd", "wr", "ex")] == [letter != "-" for letter in match[4]]
        elif match := _KVM.fullmatch(text):
            right, kvm = True, match
        else:
            right = kind_met([text]) != ""
            if (text == _CAME and not probe["data"].strip("0")) or (_BYTES in text and not probe["data"]):
                return f"it says {text!r}, and no such byte is kept"
        if not right:
            return f"it says {legible(text, 100)!r} of its place, and no probe says that"
    # A kernel without the series has nothing to say of protection, and protects nothing in any guest beside.
    needs_none = _KVM not in forms and (mode == "plain" or (not patches and probe["state"] == "plain"))
    for form, fact in _ONCE.items():
        if forms.count(form) != 1 and not (form is _KVM and needs_none):
            return f"it does not say once, of its place, {fact}"
    if len(pids) > 1:
        return f"its mapping is of the process {max(pids)}, and its QEMU is {min(pids)}"
    if probe.get("facts"):
        return f"it has the fact {legible(probe['facts'][0], 80)!r}, which no probe has"
    if kvm is not None and flags is not None:
        protected, private = kvm["enabled"] == "1", "kp" in flags
        if (protected, private) != (probe["state"] != "plain", probe["state"] == "private"):
            return f"the host's kernel does not have it as {probe['state']}"
        if protected is (int(kvm["private"]) == 0):
            return f"its guest has {kvm['private']} private pages to KVM"
    if (probe["signal"] in _OF_ADDRESSES) is not (probe.get("si_addr") is not None):
        return f"it ended by {probe['signal'] or 'no signal'}, and its si_addr is {probe.get('si_addr') or 'not told'}"
    return ""
