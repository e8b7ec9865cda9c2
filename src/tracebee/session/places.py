"""From what an object says of a place to the place on this machine.

The section of a program names a pattern of kernel functions, a system call, a function of a file or a static
probe.  Where that is depends on the machine: `find_place` asks it, and gives what can be attached to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tracebee.errors import AttachError, FormatError, TargetError
from tracebee.spec.objects import (
    FunctionUprobe,
    Kprobe,
    KprobeMulti,
    KprobePattern,
    SystemCall,
    Uprobe,
    UprobeMulti,
    UsdtProbe,
    UsdtSites,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tracebee.host.elfsymbols import Symbol
    from tracebee.host.usdt import UsdtProbe as Note
    from tracebee.language.machine import Arch
    from tracebee.session.machine import LiveMachine
    from tracebee.spec.objects import Attach

CORE = "vmlinux"
"""How the kernel itself is called among the modules that have functions."""

NEAREST = 3


class PlaceFile(Protocol):
    """A program or library."""

    @property
    def path(self) -> str: ...

    def functions(self) -> Sequence[Symbol]: ...

    def find_function(self, name: str) -> Symbol | None: ...

    def file_offset(self, address: int) -> int | None: ...

    def usdt_probes(self) -> Sequence[Note]: ...


class PlaceMachine(Protocol):
    """What is asked of a machine; tracebee.session.machine.LiveMachine knows all of it."""

    @property
    def arch(self) -> Arch: ...

    def expand_paths(self, pattern: str) -> list[str]: ...

    def user_file(self, path: str) -> PlaceFile: ...

    def kernel_functions(self) -> Iterable[tuple[str, str]]: ...

    def kernel_address(self, symbol: str) -> int | None: ...

    def syscall_numbers(self) -> Mapping[str, int]: ...


def find_place(place: Attach, machine: PlaceMachine, name: str = "") -> Attach:
    """The place on this machine; one that needs no finding is given back as it is.

    `name` is for messages.  Raises AttachError for what is not there, with the nearest names, and TargetError for
    a file that is missing or no ELF file.
    """
    match place:
        case KprobePattern():
            return _kernel_functions(place, machine, name or f"kprobe.multi/{place.pattern}")
        case SystemCall():
            return _system_call(place, machine, name or f"ksyscall/{place.name}")
        case FunctionUprobe():
            return _user_function(place, machine, name or f"uprobe/{place.path}:{place.function}")
        case UsdtProbe():
            return _static_probe(place, machine, name or f"usdt/{place.path}:{place.provider}:{place.name}")
        case _:
            return place


# --- the kernel


def _kernel_functions(place: KprobePattern, machine: PlaceMachine, name: str) -> KprobeMulti:
    import re
    from collections import Counter
    from fnmatch import translate

    matches = re.compile(translate(place.pattern)).match
    found: Counter[tuple[str, str]] = Counter()
    known: set[str] = set()
    for module, function in machine.kernel_functions():
        known.add(function)
        if matches(function):
            found[function, module] += 1
    if not found:
        raise AttachError(
            name, f"no function of the kernel fits {place.pattern}", _near(place.pattern, known)
        )
    places = tuple(
        Kprobe(function, 0, place.returns, "" if module == CORE else module, copies)
        for (function, module), copies in sorted(found.items())
    )
    return KprobeMulti(places, place.returns, place.session)


def _system_call(place: SystemCall, machine: PlaceMachine, name: str) -> Kprobe:
    """Its function has the name of the processor where SYSCALL_DEFINE makes wrappers (since Linux 4.17)."""
    for function in system_call_functions(place.name, machine.arch.syscall_wrapper):
        if machine.kernel_address(function) is not None:
            return Kprobe(function, 0, place.returns)
    calls = machine.syscall_numbers()
    if place.name in calls:
        raise AttachError(
            name, f"this kernel has no function for the system call {place.name}", "it may be configured out"
        )
    raise AttachError(name, f"there is no system call {place.name}", _near(place.name, calls))


def system_call_functions(call: str, wrapper: str) -> tuple[str, ...]:
    """What a kernel may call the function of a system call; `wrapper` is how the processor's wrappers begin."""
    return (f"{wrapper}{call}", f"__se_sys_{call}", f"sys_{call}")


def abilities(machine: LiveMachine) -> dict[str, str]:
    """What objects ask as if it were configuration: LINUX_HAS_… as libbpf has it, "y" or "n".

    A wrapper of a system call gets a pointer to the registers; a cookie tells a program which of its attachments
    it runs for.
    """
    wrappers = machine.kernel_address(f"{machine.arch.syscall_wrapper}bpf") is not None
    answers = {
        "LINUX_HAS_SYSCALL_WRAPPER": wrappers,
        "LINUX_HAS_BPF_COOKIE": machine.feature("get_attach_cookie"),
    }
    return {name: "y" if answer else "n" for name, answer in answers.items()}


# --- files


def _user_function(place: FunctionUprobe, machine: PlaceMachine, name: str) -> Attach:
    file = _file(place.path, machine)
    offsets: dict[int, None] = {}
    if place.many and any(sign in place.function for sign in "*?["):
        from fnmatch import fnmatchcase

        functions = [one for one in file.functions() if fnmatchcase(one.name, place.function)]
    else:
        single = file.find_function(place.function)
        functions = [] if single is None else [single]
    if not functions:
        near = _near(place.function.partition("@")[0], {one.name for one in file.functions()})
        raise AttachError(name, f"{file.path} has no function {place.function}", near or _stripped(file))
    for function in functions:
        if place.offset and function.size and place.offset >= function.size:
            raise AttachError(
                name, f"{function.name} has {function.size} bytes, and {place.offset} is not one of them"
            )
        offset = file.file_offset(function.address + place.offset)
        if offset is None:
            raise AttachError(name, f"{function.name} of {file.path} is in no part that is loaded")
        offsets[offset] = None
    if place.many:
        return UprobeMulti(file.path, tuple(offsets), place.returns, session=place.session)
    return Uprobe(file.path, next(iter(offsets)), place.returns)


def _static_probe(place: UsdtProbe, machine: PlaceMachine, name: str) -> UsdtSites:
    file = _file(place.path, machine)
    try:
        notes = file.usdt_probes()
    except FormatError as error:
        raise TargetError(file.path, str(error)) from error
    sites = tuple(
        (note.file_offset, note.semaphore_offset, note.arguments)
        for note in notes
        if note.provider == place.provider and note.name == place.name
    )
    if not sites:
        known = {f"{note.provider}:{note.name}" for note in notes}
        hint = _near(f"{place.provider}:{place.name}", known) if known else "it was built without <sys/sdt.h>"
        few = f"it has {', '.join(sorted(known))}" if 0 < len(known) < 8 else ""
        raise AttachError(name, f"{file.path} has no static probe {place.provider}:{place.name}", hint or few)
    return UsdtSites(file.path, sites)


def _file(path: str, machine: PlaceMachine) -> PlaceFile:
    found = machine.expand_paths(path)
    if not found:
        where = "there is no such file" if "/" in path else "there is no such library or program"
        raise TargetError(path, where, "" if "/" in path else "write its path")
    try:
        return machine.user_file(found[0])
    except FormatError as error:
        raise TargetError(found[0], f"it is no ELF file: {error}") from error
    except OSError as error:
        raise TargetError(found[0], f"it cannot be read: {error.strerror}") from error


def _stripped(file: PlaceFile) -> str:
    return "" if file.functions() else "it has no symbols: install those for debugging"


def _near(name: str, known: Iterable[str]) -> str:
    from tracebee.host.functions import nearest_names

    near = nearest_names(name, known, NEAREST)
    return f"did you mean {' or '.join(near)}?" if near else ""
