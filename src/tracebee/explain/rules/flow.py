"""Messages about the shape of a program: loops, size, calls, ends, return values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.case import register_of
from tracebee.explain.edits import map_type_edit
from tracebee.explain.explanation import SourceLine
from tracebee.explain.rules.record import LIKELY, Finding, Rule, rule
from tracebee.explain.states import to_number

if TYPE_CHECKING:
    from tracebee.explain.case import Case

FUNCTION = re.compile(r"\b([A-Za-z_]\w{0,127})\s*\(")
NOT_FUNCTIONS = {"if", "while", "for", "switch", "return", "sizeof", "__attribute__", "SEC", "asm"}


def flow_lines(case: Case) -> dict[int, str]:
    """``12: text``: source lines that the check of the control flow quotes, by slot."""
    found: dict[int, str] = {}
    for line in case.errors:
        quoted = re.match(r"(\d{1,9}): (.*)", line)
        if quoted:
            found[int(quoted[1])] = quoted[2]
    return found


def calls_itself(case: Case, first: int, second: int) -> str:
    """The function that the line of slot `first` calls and the line of slot `second` begins, or empty."""
    lines = flow_lines(case)
    from_names = FUNCTION.findall(lines.get(first, ""))
    to_names = FUNCTION.findall(lines.get(second, ""))
    return next((name for name in to_names if name in from_names and name not in NOT_FUNCTIONS), "")


def recursive_functions(case: Case) -> str:
    """A function of the source that calls itself, directly or over one other, or empty."""
    if case.source is None:
        return ""
    bodies: dict[str, set[str]] = {}
    current = ""
    for line in case.source.lines[:20_000]:
        if line[:1].isalpha() or line.startswith("_"):
            names = [name for name in FUNCTION.findall(line) if name not in NOT_FUNCTIONS]
            if names and not line.rstrip().endswith(";"):
                current = names[-1]
                bodies.setdefault(current, set())
        elif line.startswith("}"):
            current = ""
        elif current:
            bodies[current].update(FUNCTION.findall(line))
    for name, called in bodies.items():
        if name in called or any(name in bodies.get(other, ()) for other in called):
            return name
    return ""


def back_edge(case: Case, found: re.Match[str]) -> Finding | None:
    """``back-edge from insn 12 to 5``: a loop where none is allowed, or on 5.10 and 6.1 recursion."""
    first, second = int(found[1]), int(found[2])
    name = calls_itself(case, first, second)
    old = case.older("5.3")
    # Since 5.3 a program loaded with CAP_BPF may loop, so for it only calls are searched for cycles.
    privileged = case.facts.is_root() and old is False
    if name or privileged:
        function = name or recursive_functions(case)
        called = f"{function}()" if function else "a function"
        lines = flow_lines(case)
        stop = case.source.find(lines[first]) if case.source is not None and first in lines else None
        return Finding(
            "subprog-depth",
            f"The program is recursive: {called} calls itself, directly or over another function (each "
            f"other), and BPF does not "
            f"allow recursion. This kernel calls the call back to the function's start a back-edge (a loop).",
            "turn the recursion into a bounded loop, or unroll it to a fixed depth of functions",
            insn=first,
            stop=None,
            fix=(stop,),
            sure=bool(name) or privileged,
            others=("back-edge",),
        )
    if old:
        why = f"this kernel ({case.facts.release}) is older than Linux 5.3, which brought bounded loops"
        sure = True
    elif case.facts.privileges:
        why = (
            "the program is loaded without CAP_BPF, and an unprivileged program may not loop at all (loops: "
            "Linux 5.3 and CAP_BPF)"
        )
        sure = True
    else:
        why = "loops are allowed since Linux 5.3, and only for privileged programs (CAP_BPF)"
        sure = case.facts.release == "" or old is None
    place = case.slot_place(first) or loop_line(case)
    return Finding(
        "back-edge",
        f"There is a loop: the jump at instruction {first} goes back to instruction {second} (a back-edge), "
        f"and {why}.",
        "unroll the loop (#pragma unroll with a constant, bounded count), load the program with CAP_BPF on "
        "Linux 5.3 or newer, "
        "or use bpf_loop() (5.17)",
        insn=first,
        stop=case.slot_place(first),
        fix=(place,),
        sure=sure,
        others=("subprog-depth",),
    )


def loop_line(case: Case) -> SourceLine | None:
    """The only loop of the source, if there is just one."""
    if case.source is None:
        return None
    found = [n for n, line in enumerate(case.source.lines, 1) if re.match(r"\s*(?:for|while|do)\b", line)]
    return case.source.at(found[0]) if len(found) == 1 else None


def infinite(case: Case, found: re.Match[str]) -> Finding | None:
    slot = int(found[1])
    stop = (
        case.numbered(case.log.source)
        if case.stopped is None or case.stopped.index != slot
        else case.place(case.end)
    )
    known = case.slot_place(slot)
    back = next(
        (at for at in range(case.end, max(case.end - 2000, -1), -1) if goes_back(case, at, slot)),
        None,
    )
    return Finding(
        "infinite-loop",
        f"The loop at instruction {slot} never ends (infinite): the verifier came back to it with the same "
        f"state, so nothing "
        f"that the loop tests changes from one round to the next.",
        "let a counter move towards a constant bound in every round (for (int i = 0; i < 100; i++)), and do "
        "not set it again "
        "inside the loop",
        insn=slot,
        stop=known or stop,
        fix=(case.place(back),),
    )


def goes_back(case: Case, position: int, slot: int) -> bool:
    """Whether the jump at a position leads to `slot`, which is not behind it."""
    step = case.path.operation(position)
    index = case.path.insns[position].index
    return step.kind == "jump" and index + 1 + step.displacement == slot <= index


def complexity(case: Case, found: re.Match[str] | None) -> Finding:
    """One million instructions looked at."""
    old = case.older("5.2")
    limit = "131,072 (before Linux 5.2)" if old else "one million (1000000)"
    looped = hot_line(case)
    where = f" Most of the work is at {looped}." if looped is not None else ""
    story = ()
    return Finding(
        "too-complex",
        f"The program is too complex for the verifier: it looked at {limit} instructions, its limit, and "
        f"gave up: each round "
        f"of a loop and each combination of branches counts again.{where}",
        "make the program simpler: shorten loops or use bpf_loop() (5.17) or bpf_for(), split the program "
        "(tail calls, or global "
        "functions, which are checked once), fewer branches inside loops, smaller inlined functions",
        story=story,
    )


def hot_line(case: Case) -> SourceLine | None:
    """The line of the last backward jump that was walked over."""
    insns = case.path.insns
    for position in range(len(insns) - 1, max(len(insns) - 2000, 0), -1):
        if (
            insns[position].index < insns[position - 1].index
            and insns[position].frame == insns[position - 1].frame
        ):
            return case.place(position - 1)
    return None


def jumps(case: Case, found: re.Match[str]) -> Finding | None:
    odd = " Kernels up to 6.18 report it with the errno EFAULT." if case.facts.errno == "EFAULT" else ""
    looped = hot_line(case)
    where = f" Most of it is at {looped}." if looped is not None else ""
    return Finding(
        "too-complex",
        f"The program is too complex: more than 8192 branches (jumps) were waiting to be checked at the same "
        f"time, which is the "
        f"verifier's limit for states.{odd}{where}",
        "reduce the branches, mostly inside nested or unrolled loops: simplify conditions, use bpf_loop() "
        "(5.17), or split the "
        "program into tail calls or global functions (fewer jumps and smaller parts)",
    )


def other_limits(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "too-complex",
        f"The program is over one of the verifier's limits ({found[0][:120]}): it is too large.",
        "split the program into smaller ones (tail calls, several programs), and use fewer maps or functions",
    )


def unreachable(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    numbers = [int(number) for number in re.findall(r"insn (\d{1,9})", text)]
    if "unreachable" in text:
        sentence = (
            f"Instruction {numbers[0]} is unreachable: no path leads to it (dead code), so it can never run."
        )
        advice = (
            "remove the dead code; it mostly comes from assembly or from code behind a jump that is always "
            "taken"
        )
    else:
        sentence = (
            "A jump leads outside of its function or into the middle of an instruction: its target can never "
            "be reached."
        )
        advice = (
            "correct the jump's target; in C do not jump between functions, and build with another compiler "
            "version"
        )
    return Finding(
        "unreachable",
        sentence,
        advice,
        insn=numbers[0] if numbers else None,
        stop=case.slot_place(numbers[0]) if numbers else None,
    )


def no_exit(case: Case, _found: re.Match[str]) -> Finding | None:
    return Finding(
        "no-exit",
        "A function of the program does not end with an exit (return): its last instruction lets execution "
        "run past the end.",
        "let every path end with a return; it mostly comes from a noreturn call, __builtin_unreachable(), an "
        "endless loop, a panic, "
        "or other undefined behaviour, after which the compiler leaves the end out",
    )


def trap(case: Case, _found: re.Match[str]) -> Finding | None:
    return Finding(
        "no-exit",
        "The compiler replaced a part of the program by a trap (__bpf_trap): it found undefined behaviour "
        "there, such as an "
        "uninitialized variable, a noreturn call, or a path that does not end with a return.",
        "initialise the variable and let every path end with return; build with -Wall to find the place",
        LIKELY,
        False,
        others=("reg-uninit",),
    )


def depth(case: Case, found: re.Match[str]) -> Finding | None:
    """Too many frames, or a function that calls itself."""
    names = re.search(r"recursive call from (\S{1,128})\(\) to (\S{1,128})\(\)", found[0])
    frames = re.search(r"(\d{1,4}) frames", found[0])
    function = recursive_functions(case)
    if names:
        who = (
            f"{names[2]}() calls itself"
            if names[1] == names[2]
            else f"{names[1]}() and {names[2]}() call each other"
        )
        sentence = (
            f"The program is recursive: {who}, and BPF does not allow recursion: the depth of calls must "
            f"have an end."
        )
    else:
        limit = frames[1] if frames else "8"
        loop = (
            f" {function}() calls itself, directly or over another function (recursion: they loop back to "
            f"each other)."
            if function
            else " A function that calls itself (recursion) has no end of it."
        )
        sentence = f"Calls of functions are nested too deep: more than {limit} frames.{loop}"
    return Finding(
        "subprog-depth",
        sentence,
        "turn the recursion into a bounded loop; where it is only a deep chain of functions, inline some of "
        "them",
        no_insn=True,
    )


def combined_stack(case: Case, found: re.Match[str]) -> Finding | None:
    calls, size = found[1], found[2]
    return Finding(
        "stack-limit",
        f"The stack frames of {calls} nested functions (subprog calls) need {size} bytes combined; all "
        f"frames of a chain of calls "
        f"together may use 512 bytes of stack.",
        "shrink the local buffers, or move them to a per-CPU array map or a ring buffer record; do not keep "
        "large variables over "
        "a call",
        fix=(biggest_buffer(case),),
    )


def biggest_buffer(case: Case) -> SourceLine | None:
    """The declaration of the largest local array."""
    if case.source is None:
        return None
    best: tuple[int, int] = (0, 0)
    for number, line in enumerate(case.source.lines, 1):
        found = re.match(
            r"\s+(?:char|__u8|u8|unsigned char|int|__u32|__u64|long|u64|u32)\s+\w+\[(\d{1,6})\]", line
        )
        if found:
            best = max(best, (int(found[1]), number))
    return case.source.at(best[1]) if best[1] else None


def one_stack(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "stack-limit",
        f"A function of the program needs {found[1]} bytes of stack in its frame; BPF has 512 bytes for a "
        f"call chain.",
        "shrink the local buffers, or move them to a per-CPU array map",
        fix=(biggest_buffer(case),),
    )


def caller_frame(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "spill-corruption",
        "A pointer is saved on the stack of the calling function (through a pointer to a variable of the "
        "caller), which is not "
        "allowed.",
        "return the pointer instead, or inline the function (static __always_inline)",
        LIKELY,
        False,
        others=("stack-limit",),
    )


def tail_stack(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "tail-call",
        f"A function that does a tail call is called while its callers use {found[1]} bytes of stack: with "
        f"tail calls in functions, "
        f"the frames before may have at most 256 bytes together.",
        "use less stack in the callers (smaller buffers, or a per-CPU array map), or do the tail call from "
        "the main program",
        fix=(biggest_buffer(case),),
    )


def tail_map(case: Case, found: re.Match[str]) -> Finding | None:
    if case.called and case.called != "bpf_tail_call" and case.operation.number != 12:
        return None
    name = case.map_name(case.end, 2)
    if not name and (place := case.place(case.end)) is not None:
        argument = re.search(r"tail_call\w*\s*\([^,]{0,80},\s*&?(\w{1,64})", place.text)
        name = argument[1] if argument else ""
    which = f"map {name}" if name else "the map"
    fix = case.source.search(rf"\}}\s*{re.escape(name)}\s+SEC") if case.source is not None and name else None
    return Finding(
        "tail-call",
        f"bpf_tail_call gets {which}, which is not of the type BPF_MAP_TYPE_PROG_ARRAY: a tail call needs a "
        f"program array.",
        "declare the map with __uint(type, BPF_MAP_TYPE_PROG_ARRAY), key and value of 4 bytes, and put the "
        "programs into it"
        + (" (up to Linux 6.12 the kernel only says: misconfigured)" if "misconfigured" in found[0] else ""),
        edit=map_type_edit(case.source, name, "BPF_MAP_TYPE_PROG_ARRAY"),
        others=("map-helper-mismatch",),
        fix=(fix,),
    )


def tail_other(case: Case, found: re.Match[str]) -> Finding | None:
    text = found[0]
    if "reference leak" in text:
        return Finding(
            "tail-call",
            "A tail call is done while a reference (a record, socket or other object) is still held: the "
            "next program would never "
            "release it.",
            "release, submit or discard what was acquired before bpf_tail_call",
            others=("reference-leak",),
        )
    if "non-JITed" in text:
        return Finding(
            "jit",
            "The program was not compiled by the JIT, and tail calls together with functions (bpf-to-bpf "
            "calls) need the JIT.",
            "enable it: echo 1 > /proc/sys/net/core/bpf_jit_enable; or use a kernel and architecture whose "
            "JIT supports it",
            others=("tail-call",),
        )
    return Finding(
        "tail-call",
        f"A tail call is not allowed here: {text[:120]}.",
        "do the tail call from the main program (a function that returns int, with BTF), outside of "
        "callbacks",
    )


def return_value(case: Case, found: re.Match[str]) -> Finding | None:
    """The value of R0 at the end of a program or a callback."""
    text = found[0]
    register = register_of(text) or 0
    allowed = re.search(r"should have been in (.{1,60})", text)
    span = allowed[1].strip() if allowed else ""
    bounds = re.fullmatch(r"[\[(](-?(?:0x[0-9a-f]+|\d+))[,;] ?(-?(?:0x[0-9a-f]+|\d+))[\])]", span)
    if bounds:
        low, high = to_number(bounds[1]), to_number(bounds[2])
        if span.startswith("(") and low is not None and high is not None:
            # (value; mask) of the number's bits.
            high = low + high
        span = f"{low} to {high}"
    have = re.search(r"has (smin=\S+ smax=\S+|value \([^)]*\)|unknown scalar value)", text)
    value = have[1] if have else ""
    constant = re.match(r"smin=(\S+) smax=\1$", value)
    said = (
        f"{constant[1]}"
        if constant
        else "an unknown value (any number)"
        if "unknown" in value
        else f"a number ({value})"
        if value
        else "something that is no number"
    )
    origin = case.trace(register)
    if "callback" in text:
        sentence = (
            f"The callback returns {said}, but its return value has to be in the range {span or '0 to 1'}: 0 "
            f"to go on, 1 to stop."
        )
        advice = "return only 0 or 1 from the callback, on every path"
    else:
        lsm = case.facts.section.startswith("lsm") or "-4095" in text
        what = (
            "0, or a negative errno such as -EPERM (-1)"
            if lsm
            else f"in the allowed range {span}"
            if span
            else "a number"
        )
        sentence = (
            f"The program returns {said} in R0, but for {case.kind} the return value must be {what}"
            + (f" (allowed: {span})." if span else ".")
        )
        advice = "return one of the allowed values as a constant on every path" + (
            "; where the value is computed, test its range first" if not constant else ""
        )
    return Finding(
        "return-range", sentence, advice, story=case.story(origin), fix=(case.place(origin.position),)
    )


def not_known(case: Case, found: re.Match[str]) -> Finding | None:
    return Finding(
        "return-range",
        f"The return value in R0 is no number that the verifier knows ({found[0][:100]}): {case.kind} has to "
        f"return a number in "
        f"the allowed range.",
        "return a constant such as 0 on every path, never a pointer",
        story=case.story(case.trace(0)),
    )


RULES: tuple[Rule, ...] = (
    rule("back-edge", r"back-edge from insn (\d{1,9}) to (\d{1,9})", back_edge, "4.15..7.3"),
    rule("infinite-loop", r"infinite loop detected at insn (\d{1,9})", infinite, "5.3..7.3"),
    rule("too-complex", r"BPF program is too (?:large|complex).*", complexity, "4.15..7.3"),
    rule("too-complex", r"The sequence of \d+ jumps is too complex", jumps, "4.15..7.3"),
    rule(
        "too-complex",
        r"too many subprograms|The total number of \w+ per program has reached the limit.*|too many "
        r"different "
        r"module BTFs|fd_array has too many entries.*",
        other_limits,
        "4.16..7.3",
    ),
    rule(
        "unreachable",
        r"unreachable insn \d+|(?:indirect )?jump out of range from insn \d+ to \d+|jump into the middle of "
        r"ldimm64 insn \d+",
        unreachable,
        "4.15..7.3",
    ),
    rule("no-exit", r"last insn is not an exit or jmp", no_exit, "4.15..7.3"),
    rule("no-exit", r"unexpected __bpf_trap\(\)", trap, "6.17..7.3"),
    rule(
        "subprog-depth",
        r"the call stack of \d+ frames is too deep|recursive call from .*",
        depth,
        "4.16..7.3",
    ),
    rule("stack-limit", r"combined stack size of (\d+) calls is (\d+)", combined_stack, "4.16..7.3"),
    rule("stack-limit", r"stack size of subprog \d+ is (\d+)\. Too large", one_stack, "6.12.."),
    rule(
        "spill-corruption",
        r"cannot spill pointers to stack into stack frame of the caller",
        caller_frame,
        "4.16..",
    ),
    rule(
        "tail-call",
        r"tail_calls are not allowed when call stack of previous frames is (\d+) bytes",
        tail_stack,
        "5.10..7.3",
    ),
    rule(
        "tail-call",
        r"kernel subsystem misconfigured verifier|expected prog array map for tail call|tail_call abusing "
        r"map_ptr",
        tail_map,
        "4.15..7.3",
    ),
    rule(
        "tail-call",
        r"tail_call would lead to reference leak|cannot tail call within (?:callback|exception cb)|tail_call "
        r"is (?:not"
        r"|only) allowed in .*|tail_calls are not allowed in .*|mixing of tail_calls and bpf-to-bpf "
        r"calls.*|tracking tail call "
        r"prog failed|program with __ref argument cannot tail call",
        tail_other,
        "4.20..7.3",
    ),
    rule(
        "return-range",
        r"(?:At (?:program exit|callback return|async callback return|subprogram exit) )?the register R\d "
        r"has .*",
        return_value,
        "4.17..7.3",
    ),
    rule(
        "return-range",
        r"the register R\d is not a known value.*|R0 not a scalar value|At subprogram exit the register R\d "
        r"is not a "
        r"scalar value.*|exception cb cannot return void",
        not_known,
        "4.17..7.3",
    ),
)
