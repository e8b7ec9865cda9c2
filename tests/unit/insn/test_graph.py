"""The flow of programs as a graph."""

from __future__ import annotations

from tracebee.insn import decode, encode
from tracebee.insn.asm import assemble
from tracebee.insn.graph import Block, blocks, graph
from tracebee.insn.xlated import Line, Names, describe

PROGRAM = """
    r1 = 0x5 ll
    if r1 == 0x0 goto end
again:
    r1 += -1
    call bpf_ktime_get_ns
    if r1 != 0x0 goto again
    goto end
    exit
end:
    exit
"""


def lines(text: str) -> list[Line]:
    return describe(decode(encode(assemble(text))), Names())


def shape(found: list[Block]) -> dict[int, tuple[int, ...]]:
    return {block.start: block.following for block in found}


def test_blocks_end_at_jumps_and_before_targets() -> None:
    found = blocks(lines(PROGRAM))
    assert shape(found) == {0: (3, 8), 3: (6, 3), 6: (8,), 7: (), 8: ()}
    assert [line.slot for line in found[0].lines] == [0, 2]
    assert [line.slot for block in found for line in block.lines] == [0, 2, 3, 4, 5, 6, 7, 8]


def test_jumps_out_of_the_function_lead_nowhere() -> None:
    assert shape(blocks(lines("if r1 == 0x0 goto pc+5\nexit"))) == {0: (1,), 1: ()}
    assert blocks([]) == []


def test_a_graph_in_graphviz() -> None:
    assert graph([('say "hi"', lines("if r1 s> 0x1 goto pc+1\nr0 = 1\nexit"))]) == [
        'digraph "program" {',
        "\tnode [shape=box,fontname=monospace];",
        "\tsubgraph cluster_0 {",
        '\t\tlabel="say \\"hi\\"";',
        "\t\tstyle=dashed;",
        "\t\tentry_0 [shape=Mdiamond,label=ENTRY];",
        "\t\texit_0 [shape=Mdiamond,label=EXIT];",
        '\t\tat_0 [label="   0: (65) if r1 s> 0x1 goto pc+1\\l"];',
        '\t\tat_1 [label="   1: (b7) r0 = 1\\l"];',
        '\t\tat_2 [label="   2: (95) exit\\l"];',
        "\t\tentry_0 -> at_0;",
        "\t\tat_0 -> at_1;",
        "\t\tat_0 -> at_2 [style=bold];",
        "\t\tat_1 -> at_2;",
        "\t\tat_2 -> exit_0;",
        "\t}",
        "}",
    ]
