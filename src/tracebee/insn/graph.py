"""The flow of a program as a graph in the language of Graphviz: a box for each run of instructions without a jump.

tracebee prog dump xlated id 31 visual | dot -Tsvg > flow.svg
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTO, GOTOL, LDDW, reach

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tracebee.insn.codec import Insn
    from tracebee.insn.xlated import Line

EXIT = op.BPF_JMP | op.BPF_EXIT


class Block(NamedTuple):
    """Instructions that run one after the other, from the slot `start` on.

    `following` are the slots where blocks begin that may run next, the one that a jump leads to last; without any,
    the function returns.
    """

    start: int
    lines: tuple[Line, ...]
    following: tuple[int, ...]


def blocks(lines: Sequence[Line]) -> list[Block]:
    """The blocks of one function.  A jump out of it, or into the middle of an instruction, leads nowhere."""
    if not lines:
        return []
    end = lines[-1].slot + lines[-1].insn.slots
    leaders = {lines[0].slot}
    places = {line.slot for line in lines}
    for line in lines:
        targets = _targets(line.insn, line.slot)
        if targets is not None:
            leaders.update(targets)
            leaders.add(line.slot + line.insn.slots)
    found: list[Block] = []
    run: list[Line] = []
    for line in lines:
        run.append(line)
        behind = line.slot + line.insn.slots
        if behind in leaders or behind == end:
            targets = _targets(line.insn, line.slot)
            following = (behind,) if targets is None else targets
            inside = [slot for slot in following if slot in places]
            found.append(Block(run[0].slot, tuple(run), tuple(dict.fromkeys(inside))))
            run = []
    return found


def graph(functions: Iterable[tuple[str, Sequence[Line]]]) -> list[str]:
    """The lines of a graph of functions, each given as its title and its instructions."""
    out = ['digraph "program" {', "\tnode [shape=box,fontname=monospace];"]
    for number, (title, lines) in enumerate(functions):
        entry, leave = f"entry_{number}", f"exit_{number}"
        out += [
            f"\tsubgraph cluster_{number} {{",
            f"\t\tlabel={_quoted(title)};",
            "\t\tstyle=dashed;",
            f"\t\t{entry} [shape=Mdiamond,label=ENTRY];",
            f"\t\t{leave} [shape=Mdiamond,label=EXIT];",
        ]
        found = blocks(lines)
        for block in found:
            # \l ends a line and puts it to the left.
            rows = "".join(f"{_escaped(_row(line))}\\l" for line in block.lines)
            out.append(f'\t\tat_{block.start} [label="{rows}"];')
        for block in found[:1]:
            out.append(f"\t\t{entry} -> at_{block.start};")
        for block in found:
            if not block.following:
                out.append(f"\t\tat_{block.start} -> {leave};")
            *_, last = (0, *block.following)
            for slot in block.following:
                taken = len(block.following) > 1 and slot == last
                out.append(f"\t\tat_{block.start} -> at_{slot}{' [style=bold]' if taken else ''};")
        out.append("\t}")
    return [*out, "}"]


def _targets(insn: Insn, slot: int) -> tuple[int, ...] | None:
    """Where a jump may lead, () for the end of the function; None for what is no jump."""
    if insn.code == EXIT:
        return ()
    if insn.code in (CALL, LDDW):
        return None
    distance = reach(insn)
    if distance is None:
        return None
    target = slot + 1 + distance
    return (target,) if insn.code in (GOTO, GOTOL) else (slot + 1, target)


def _row(line: Line) -> str:
    note = f"  // {line.note}" if line.note else ""
    return f"{line.slot:4d}: {line.text}{note}"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Text within a string of Graphviz."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
