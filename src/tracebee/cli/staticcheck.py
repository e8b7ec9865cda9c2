"""``tracebee check FILE``: mistakes that load and attach well and then show wrong values, or fail at the attach.

Nothing is loaded.  A script is compiled up to its types and looked at; of an object the instructions are read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracebee.language.source import Span
    from tracebee.session.checking import CheckedMachine
    from tracebee.spec.objects import Attach, ObjectSpec, ProgramSpec


class Complaint(NamedTuple):
    """What was found: a stable id, where (`file` and `line`, 0 if not known), what to do, and how it is shown."""

    id: str
    message: str
    file: str = ""
    line: int = 0
    hint: str = ""
    excerpt: str = ""

    def text(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        lines = [f"{place}WARNING: {self.message} [{self.id}]"]
        if self.excerpt:
            lines.append(self.excerpt)
        if self.hint:
            lines.append(f"HINT: {self.hint}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.id, "message": self.message, "file": self.file, "line": self.line}
        return row | {"hint": self.hint}


def check_statically(words: Sequence[str], format_: str) -> int:
    """Check a script, or a program given by -e; the exit status is 1 if anything was found.

    Raises UsageError, SourceError.
    """
    from tracebee.session.checking import CheckedMachine

    if not words or (words[0] == "-e" and len(words) < 2):
        raise UsageError("check: no script given", "tracebee check FILE")
    machine = CheckedMachine()
    try:
        if words[0] == "-e":
            found = list(of_script("stdin", words[1].encode("utf-8", "surrogateescape"), words[2:], machine))
        else:
            found = list(of_script(words[0], read(words[0]), words[1:], machine))
    finally:
        machine.close()
    for complaint in found:
        if format_ == "json":
            import json

            print(json.dumps(complaint.to_json()))
        else:
            print(complaint.text())
    if not found and format_ != "json":
        print("nothing to complain about")
    return 1 if found else 0


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"failed to open file '{path}': {error.strerror}") from None


def of_script(
    name: str, data: bytes, parameters: Sequence[str], machine: CheckedMachine
) -> Iterator[Complaint]:
    """The complaints about a script, warnings of the compiler too.  Raises SourceError."""
    from tracebee.language.compile import Options, analyze, deep_recursion
    from tracebee.language.passes.lint import lint
    from tracebee.language.passes.parameters import split_parameters
    from tracebee.language.source import Source

    source = Source.decode(name, data)
    options = Options(parameters=split_parameters(list(parameters)), environment=os.environ, unsafe=True)
    with deep_recursion():
        compilation = analyze(source, machine, options)
        found = lint(compilation)
    for diagnostic in compilation.warnings:
        span = diagnostic.span
        yield Complaint(
            "compiler-warning",
            diagnostic.message,
            name,
            line_of(span) if span is not None else 0,
            diagnostic.hint,
            span.excerpt if span is not None else "",
        )
    for finding in found:
        yield Complaint(
            finding.id, finding.message, name, line_of(finding.span), finding.hint, finding.span.excerpt
        )


def line_of(span: Span) -> int:
    """The line of a place; of what a macro brought in, that of its use."""
    while span.expanded_from is not None:
        span = span.expanded_from
    return span.source.position(span.start)[0]


def of_object(name: str, spec: ObjectSpec, machine: CheckedMachine) -> Iterator[Complaint]:
    """The complaints about an object: reads behind an event's record, places that cannot be hooked.

    `spec` has CO-RE's offsets where this kernel has them, so that what is left wrong is wrong here.
    """
    from tracebee.object.contextreads import context_reads

    programs = {program.name: program for program in spec.programs}
    for probe in spec.probes:
        program = programs[probe.program]
        size = record_size(probe.attach, machine)
        if size is not None:
            for place in context_reads(program.insns):
                if place.end > size:
                    file, line, text = source_line(spec, program, place.slot)
                    yield Complaint(
                        "past-the-record",
                        f"program {program.name} reads {place.size} bytes of its context at offset "
                        f"{place.offset}, and "
                        f"the record of {probe.name} has {size}: attaching will fail with EACCES",
                        file or name,
                        line,
                        f"take the offsets of this kernel: tracebee struct {event_of(probe.attach)}",
                        text,
                    )
        yield from of_place(name, program.name, probe.attach, machine)


def record_size(place: Attach, machine: CheckedMachine) -> int | None:
    """The bytes that a program at a place may read of its context; None where that is not known."""
    from tracebee.spec.objects import RawTracepoint, Tracepoint

    if isinstance(place, Tracepoint):
        record = machine.tracepoint_format(place.category, place.event)
        return (
            None
            if record is None
            else max((field.offset + field.size for field in record.fields), default=None)
        )
    if isinstance(place, RawTracepoint):
        from tracebee.btf.types import FuncProto, Ptr, Typedef

        btf = machine.btf()
        found = None if btf is None else btf.find(f"btf_trace_{place.event}", Typedef)
        if btf is None or found is None:
            return None
        kind = btf.type(btf.resolve(found))
        proto = btf.type(btf.resolve(kind.type_id)) if isinstance(kind, Ptr) else None
        # The first parameter is the tracepoint's own, which programs do not get.
        return (len(proto.params) - 1) * 8 if isinstance(proto, FuncProto) else None
    return None


def event_of(place: Attach) -> str:
    from tracebee.spec.objects import RawTracepoint, Tracepoint

    if isinstance(place, Tracepoint):
        return f"{place.category}:{place.event}"
    return place.event if isinstance(place, RawTracepoint) else "EVENT"


def of_place(name: str, program: str, place: Attach, machine: CheckedMachine) -> Iterator[Complaint]:
    """What is certainly wrong with the name of a kernel function or tracepoint."""
    from tracebee.session.why import NAME_CAUSES, why
    from tracebee.spec.objects import Kprobe, Tracepoint

    causes: tuple[str, ...]
    if isinstance(place, Kprobe):
        answer = why(f"kprobe:{place.function}", machine)
        causes = NAME_CAUSES
    elif isinstance(place, Tracepoint):
        answer = why(f"tracepoint:{place.category}:{place.event}", machine)
        causes = ("tracepoint-missing",)
    else:
        return
    for obstacle in answer.obstacles:
        if obstacle.sure and obstacle.cause in causes:
            hint = f"what works here: {', '.join(answer.instead)}" if answer.instead else obstacle.advice
            yield Complaint(obstacle.cause, f"program {program}: {obstacle.sentence}", name, 0, hint)


def source_line(spec: ObjectSpec, program: ProgramSpec, slot: int) -> tuple[str, int, str]:
    """(file, line, text) of an instruction by the program's line info; ("", 0, "") where it has none."""
    from tracebee.btf import Btf
    from tracebee.errors import FormatError

    best = None
    for info in program.line_info:
        if info.insn_offset <= slot and (best is None or info.insn_offset >= best.insn_offset):
            best = info
    if best is None or not spec.btf:
        return "", 0, ""
    try:
        btf = Btf.from_bytes(spec.btf)
        return btf.string(best.file), best.line, btf.string(best.text)
    except FormatError:
        return "", 0, ""
