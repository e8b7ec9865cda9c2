"""``tracebee prog dump``: the code of loaded programs, as the verifier left it or as the processor runs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.selection import print_json, print_lines, split_options, split_selector
from tracebee.errors import NotSupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.cli.selection import Options
    from tracebee.insn.xlated import Source
    from tracebee.kernel.info import ProgramInfo
    from tracebee.kernel.xlated import ProgramCode

KINDS = ("xlated", "jited")
FLAGS = {"xlated": ("linum", "opcodes", "visual"), "jited": ("linum", "opcodes", "intel")}


class Wanted(NamedTuple):
    """What is asked for: "xlated" or "jited", how, and into which file the bytes are to go."""

    what: str
    flags: frozenset[str]
    file: str


def run_dump(words: Sequence[str]) -> int:
    """Print the code of programs.  Raises TracebeeError."""
    options = split_options(words)
    if not options.words or options.words[0] not in KINDS:
        raise UsageError(
            "which code?", "`xlated` are the instructions behind the verifier, `jited` machine code"
        )
    what, *rest = options.words
    selector, rest = split_selector(rest)
    wanted = parse_wanted(what, rest)
    if "visual" in wanted.flags and options.wants_json:
        raise UsageError("a graph is no JSON", "leave out -j and -p, or `visual`")

    from tracebee.kernel import ids

    found = ids.find("prog", selector)
    try:
        if len(found) > 1 and (wanted.file or "visual" in wanted.flags):
            numbers = ", ".join(str(program_id) for program_id, _ in found)
            raise UsageError(
                f"{' '.join(selector)} means {len(found)} programs: {numbers}", "say which by its id"
            )
        _dump(found, wanted, options)
    finally:
        for _, fd in found:
            os.close(fd)
    return 0


def parse_wanted(what: str, words: Sequence[str]) -> Wanted:
    """The words behind the selector.  Raises UsageError."""
    flags: set[str] = set()
    file = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "file":
            if not rest:
                raise UsageError("file wants a path behind it", "the bytes are written there")
            file = rest.pop(0)
        elif word in FLAGS[what]:
            flags.add(word)
        else:
            known = ", ".join((*FLAGS[what], "file FILE"))
            raise UsageError(f"what is {word!r}?", f"behind the program may stand {known}")
    return Wanted(what, frozenset(flags), file)


def _dump(found: Sequence[tuple[int, int]], wanted: Wanted, options: Options) -> None:
    from tracebee.kernel.info import program_info
    from tracebee.kernel.xlated import CodeNames, read_code

    rows: list[dict[str, Any]] = []
    for index, (program_id, fd) in enumerate(found):
        info = program_info(fd)
        code = read_code(fd)
        data = code_bytes(wanted.what, program_id, info, code)
        if wanted.file:
            _write_file(wanted.file, data)
            return
        names = CodeNames(code)
        if wanted.what == "jited":
            from tracebee.cli.prog.machinecode import as_json, as_text
        else:
            from tracebee.cli.prog.instructions import as_json, as_text
        if options.wants_json:
            head = {"id": program_id, "type": info.type.lower(), "name": info.name, "tag": info.tag}
            rows.append({**head, "insns": as_json(code, names, wanted.flags)})
        else:
            if len(found) > 1:
                print_lines([*([""] if index else []), _head(program_id, info)])
            print_lines(as_text(code, names, wanted.flags))
    if options.wants_json:
        # bpftool too has the bare instructions of a single program.
        print_json(rows if len(rows) > 1 else rows[0]["insns"], options)


def code_bytes(what: str, program_id: int, info: ProgramInfo, code: ProgramCode) -> bytes:
    """The bytes of the code.  Raises NotSupportedError if the kernel does not give them."""
    data = code.xlated if what == "xlated" else code.jited
    if data:
        return data
    from tracebee.kernel.xlated import why_withheld

    length = info.xlated_prog_len if what == "xlated" else info.jited_prog_len
    thing = "instructions" if what == "xlated" else "machine code"
    raise NotSupportedError(
        f"the kernel gives no {thing} of program {program_id}", hint=why_withheld(what, bool(length))
    )


def _head(program_id: int, info: ProgramInfo) -> str:
    return f"{program_id}: {info.type.lower()}  name {info.name}  tag {info.tag}"


def _write_file(path: str, data: bytes) -> None:
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


class SourceLines:
    """Lines of source as they stand between instructions; one that comes twice in a row is shown once.

    With `exact` each is shown, with its whole file and as bpftool does with ``linum``.
    """

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.last: tuple[str, int] | None = None

    def show(self, source: Source | None) -> list[str]:
        if source is None:
            return []
        if self.exact:
            place = f"[file:{source.file} line_num:{source.line} line_col:{source.column}]"
            return [f"; {source.text} {place}"]
        line = source.file, source.line
        if line == self.last or not (source.text or source.line):
            return []
        self.last = line
        place = f"{os.path.basename(source.file)}:{source.line}:{source.column}"
        return [f"; {source.text}  [{place}]" if source.text else f"; [{place}]"]

    def start_function(self) -> None:
        """The next line is shown, whichever it is."""
        self.last = None


def source_fields(source: Source | None) -> dict[str, Any]:
    """The fields of JSON that tell the source of an instruction."""
    if source is None:
        return {}
    fields: dict[str, Any] = {"src": source.text}
    if source.file:
        fields["file"] = source.file
    if source.line:
        fields["line_num"] = source.line
    if source.column:
        fields["line_col"] = source.column
    return fields


def with_note(text: str, note: str) -> str:
    return f"{text}  // {note}" if note else text
