"""BTF for the generated programs, so that the kernel's log and any dump of a program quote the script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.btf.types import FUNC_STATIC, INT_SIGNED
from tracebee.btf.writer import BtfBuilder
from tracebee.spec.objects import FuncInfo, LineInfo, MapSpec

if TYPE_CHECKING:
    from tracebee.language.codegen.emit import Emitter
    from tracebee.language.lower.build import Build

MAX_COLUMN = 1023
"""line_col has ten bits for the column and the rest for the line (BPF_LINE_INFO_LINE_COL)."""


class DebugInfo:
    """Collects the BTF of one object."""

    def __init__(self) -> None:
        self.builder = BtfBuilder()
        integer = self.builder.add_int("int", 4, INT_SIGNED)
        void_pointer = self.builder.add_ptr(0)
        self.main = self.builder.add_func_proto(integer, [("ctx", void_pointer)])
        long = self.builder.add_int("long", 8, INT_SIGNED)
        self.callback = self.builder.add_func_proto(
            long,
            [("map", void_pointer), ("key", void_pointer), ("value", void_pointer), ("frame", void_pointer)],
        )

    def describe(self, emitter: Emitter) -> tuple[tuple[FuncInfo, ...], tuple[LineInfo, ...]]:
        """func_info and line_info of an emitted program."""
        final = emitter.builder.final_slot
        functions = []
        for number, (offset, name) in enumerate(emitter.functions):
            proto = self.callback if number else self.main
            functions.append(FuncInfo(final(offset), self.builder.add_func(name, proto, FUNC_STATIC)))
        starts = {function.insn_offset for function in functions}
        lines: dict[int, LineInfo] = {}
        for offset, span in emitter.lines:
            lines[final(offset)] = self._line(final(offset), span)
        for start in starts:
            if start not in lines:
                # The kernel wants a line for the first instruction of every function.
                following = [offset for offset in sorted(lines) if offset > start]
                source = lines[following[0]] if following else LineInfo(start, 0, 0, 1, 1)
                lines[start] = LineInfo(start, source.file, source.text, source.line, source.column)
        return tuple(functions), tuple(lines[offset] for offset in sorted(lines))

    def _line(self, offset: int, span: object) -> LineInfo:
        from tracebee.language.source import Span

        assert isinstance(span, Span)
        while span.expanded_from is not None:
            span = span.expanded_from
        line, column = span.source.position(span.start)
        text = self.builder.add_string(span.source.line(line).strip()[:500])
        file = self.builder.add_string(span.source.name)
        return LineInfo(offset, file, text, line, min(column, MAX_COLUMN))

    def typed_map(self, spec: MapSpec, build: Build) -> MapSpec:
        """The map with BTF types for key and value; left without where there are none."""
        return spec

    def to_bytes(self) -> bytes:
        return self.builder.to_bytes()
