"""Probe events of tracefs: what its error_log says of a line, and what the line itself shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, TOLD, Finding, Rule
from tracebee.explain.attach.functions import DOC_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt

REGISTERS = {
    "x86_64": "%di, %si, %dx, %cx, %r8, %r9 for the first six arguments, %ax for a return value",
    "aarch64": "%x0 to %x7 for the arguments",
}
"""How kprobe events write the registers of a call (arch/*/kernel/ptrace.c, regoffset_table)."""

X86_REGISTERS = frozenset(
    (
        *("r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "bx", "bp", "ax", "cx", "dx", "si", "di"),
        *("orig_ax", "ip", "cs", "flags", "sp", "ss"),
    )
)

ARGUMENTS = {
    # Words of error_log about an argument (kernel/trace/trace_probe.h, ERRORS): what is wrong, what to do.
    r"Invalid register name": (
        "{part} is not a register of this CPU",
        "use a register name of this architecture: {registers}; or $argN",
    ),
    r"Unknown type is specified": (
        "the type of the argument {part} is unknown",
        "use u8 to u64, s8 to s64, x8 to x64, char, string, ustring, symbol, or a bitfield b4@0/32",
    ),
    r"Invalid \$-val?[ir]+[ai]*able specified|Invalid \$-variable": (
        "{part} is no variable that probe events have",
        "use $argN, $retval (in return probes), $stack, $stackN or $comm",
    ),
    r"Invalid argument number|Invalid stack number": (
        "the number in {part} is not one of an argument or stack entry",
        "count arguments from $arg1, and stack entries from $stack0",
    ),
    r"\$?retval is not available on (?:this )?probe": (
        "$retval exists only in return probes (a line with r:)",
        "write r: in front, or take an argument instead",
    ),
    r"Dereference needs a brace|Dereference (?:brace )?is not closed|Unbalanced": (
        "the dereference in {part} has no closing bracket",
        "write +OFFSET(ARGUMENT), with its brackets balanced",
    ),
    r"Dereference is too much nested": (
        "{part} dereferences more often than probe events can",
        "dereference less deeply, or use a BPF program",
    ),
    r"\$comm can not be dereferenced": (
        "{part} is the text itself and no address",
        "write $comm alone, with :string",
    ),
    r"String is not closed": (
        "the text in {part} has no closing quote",
        "write the text between two quotes",
    ),
    r"Invalid memory address|Invalid file offset": (
        "{part} is no address: a number or a symbol is expected behind @",
        "write @SYMBOL, @SYMBOL+8 or @0xADDRESS; @+OFFSET in uprobe events",
    ),
    r"Invalid fetch argument|No argument expression": (
        "{part} is no argument that probe events have",
        "write a register (%di), $argN, $stackN, $retval, $comm, @SYMBOL or +OFFSET(ARGUMENT)",
    ),
    r"\$arg\* (?:can be used only once|is not)|\$arg\* .*": (
        "$arg* stands where it cannot",
        "write $arg* once, at the entry of a function that BTF knows, or each argument by itself",
    ),
    r"Invalid dereference offset|Invalid immediate|Immediate": (
        "the offset in {part} is not a number",
        "write +8(%di), -8(%bp) or +u0(%si) for user memory",
    ),
    r"Array|array": (
        "the array in {part} is not one that probe events have",
        "write TYPE[N] with N from 1 to 64, on an argument in memory",
    ),
    r"String accepts only memory argument|Symbol(?: type)? .*(?:memory|string)": (
        "{part} is to be shown as a string, which needs an address in memory",
        "write +0(%si):string (kernel memory) or +u0(%si):ustring (user memory)",
    ),
    r"This variable is not found|No BTF entry|BTF is not available|not a (?:pointer|struct)|no such member"
    r"|This field is not found|Bitfield|bitfield": (
        "the argument {part} cannot be found by the kernel's BTF at this place",
        "use a register with an offset, or a parameter's name as BTF has it",
    ),
    r"returns 'void' type": (
        "the function returns nothing (void), so there is no $retval",
        "leave $retval out",
    ),
    r"Argument name must follow|Argument name|Invalid argument": (
        "the name of an argument is not a C identifier, is missing, or is used twice",
        "write NAME=FETCHARG with letters, digits and underscores",
    ),
    r"Too many arguments|Event too big|Argument expression": (
        "the event has more or longer arguments than an event record holds",
        "fetch less: fewer arguments, shorter arrays",
    ),
    r"File offset is not available with kprobe": (
        "{part} is a file offset (@+...), which only uprobe events have",
        "use @SYMBOL or @ADDRESS",
    ),
    r"Symbol is not available with uprobe": (
        "{part} is a kernel symbol, which uprobe events do not have",
        "use a register, the stack, or @+FILE_OFFSET",
    ),
    r"Maxactive|maxactive": (
        "the number behind r, maxactive, is not right: it is for kretprobes, and at most 4096",
        "write r: without a number, or rN: with N up to 4096",
    ),
}

PLACES = {
    # Words about the file and place of a uprobe event.
    r"Failed to find the given file": (
        "uprobe-file",
        "the file {path} does not exist, as the kernel sees paths from here",
        "give the right path; a file of a container is below /proc/PID/root",
    ),
    r"Not a regular file": (
        "uprobe-file",
        "{path} is not a regular file (a directory or a device, perhaps)",
        "give the path of the program or library itself",
    ),
    r"Invalid uprobe offset|Invalid probed address suffix|Reference counter|Uprobe offset": (
        "uprobe-offset",
        "the offset of the uprobe is not a number, or is no place in the file {path}",
        "give the file offset of the function: symbol value minus the segment's address plus the segment's offset",
    ),
    r"Tracepoint is not found|Attached event does not exist|Event probe|event probe": (
        "tracepoint-missing",
        "there is no tracepoint (event) that the line could be put on",
        "list the events in tracefs (available_events) and name one that exists",
    ),
}

NAMES = (
    r"(?:Event|Group) name (?:must follow|is too long|is not specified)"
    r"|(?:Event|Group) name .*(?:identifier|long|specified)|No (?:event|group) name"
)
EXISTING = (
    r"already the exact same probe event|Probe type is different from existing"
    r"|Argument type or name is different|already used by another event"
)


def _examine(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind not in ("kprobe event", "uprobe event") or not attempt.was_tried or attempt.is_silent:
        return
    said = attempt.error_log
    part, message = _caret(said)
    path = attempt.target
    quoted = (f"tracefs: {message}",) if message else ()
    if attempt.errno == "EEXIST" or re.search(EXISTING, said):
        yield from _exists(attempt, quoted)
        return
    if re.search(NAMES, said):
        yield _name(attempt, PROVEN, quoted)
        return
    for pattern, (cause, sentence, advice) in PLACES.items():
        if re.search(pattern, said):
            yield Finding(cause, PROVEN, sentence.format(path=path), advice, quoted, reference=DOC_EVENTS)
            return
    for pattern, (sentence, advice) in ARGUMENTS.items():
        if re.search(pattern, said):
            words = {"part": part or "an argument", "registers": REGISTERS.get(attempt.machine.arch, "%NAME")}
            yield Finding(
                "bad-fetch-arg",
                TOLD,
                f"in the probe event, {sentence.format(**words)}",
                advice.format(**words),
                quoted,
                reference=DOC_EVENTS,
            )
            return
    if not message and attempt.errno in ("EINVAL", "ENOENT", "E2BIG"):
        yield from _by_its_own_look(attempt)


def _exists(attempt: Attempt, quoted: tuple[str, ...]) -> Iterator[Finding]:
    event = attempt.event
    name = f"{event.group or 'kprobes'}/{event.name}" if event is not None and event.name else "that name"
    yield Finding(
        "event-exists",
        PROVEN,
        f"an event {name} exists already, of another kind or with other arguments",
        f"remove the old event first (write -:{name} to the same file), or choose another name",
        (*quoted, f"the answer is {attempt.errno}"),
        reference=DOC_EVENTS,
    )


def _name(attempt: Attempt, weight: int, quoted: tuple[str, ...]) -> Finding:
    event = attempt.event
    name = f"{event.group}/{event.name}".strip("/") if event is not None else "the event"
    return Finding(
        "bad-event-name",
        weight,
        f"{name} cannot be the name of an event: event and group names must be C identifiers (letters, digits and "
        "underscores, not starting with a digit) of at most 63 characters",
        "choose a name without dashes, dots, blanks and other signs, or leave it out: then the kernel makes one",
        quoted,
        reference=DOC_EVENTS,
    )


def _by_its_own_look(attempt: Attempt) -> Iterator[Finding]:
    """No words were kept: what is wrong with the line to see."""
    event = attempt.event
    if event is None:
        return
    for name in (event.group, event.name):
        if name and (not re.fullmatch(r"[A-Za-z_]\w*", name) or len(name) > 63):
            yield _name(attempt, LIKELY, ())
            return
    for argument in event.arguments:
        fetch = argument.partition("=")[2] or argument
        register = re.search(r"%(\w+)", fetch)
        known = X86_REGISTERS if attempt.machine.arch in ("x86_64", "") else None
        if register and known is not None and register[1] not in known:
            yield Finding(
                "bad-fetch-arg",
                LIKELY,
                f"in the probe event, %{register[1]} is not a register of this CPU",
                f"use a register name of this architecture: {REGISTERS['x86_64']}",
                (f"the argument {argument}",),
                reference=DOC_EVENTS,
            )
            return
        if "$retval" in fetch and not event.is_return:
            yield Finding(
                "bad-fetch-arg",
                LIKELY,
                "in the probe event, $retval is used, which exists only in return probes",
                "write r: in front, or take an argument instead",
                (f"the argument {argument}",),
                reference=DOC_EVENTS,
            )
            return
    if event.arguments and attempt.machine.is_traceable(attempt.target):
        yield Finding(
            "bad-fetch-arg",
            GUESS,
            "the function can be probed, so one of the event's arguments is probably wrong: a register, type or "
            "offset that is not one",
            "read error_log in tracefs, which marks the place; or leave the arguments out one by one",
            ("the function is in available_filter_functions",),
            reference=DOC_EVENTS,
        )


def _caret(said: str) -> tuple[str, str]:
    """The word that the last entry of an error_log marks, and its message; "" where it has none."""
    message, part, command = "", "", ""
    for line in said.splitlines():
        if found := re.search(r"error: (.*)$", line):
            message, part, command = found[1].strip(), "", ""
        elif "Command:" in line:
            command = line
        elif line.strip() == "^" and command:
            part = command[line.index("^") :].split(" ")[0]
    return part, message


RULES = (Rule("the line of a probe event", _examine),)
