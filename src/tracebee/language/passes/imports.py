"""Pass: read what the script imports: other scripts, C headers, folders of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language import tree
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import Parser
from tracebee.language.source import Source, Span

if TYPE_CHECKING:
    from tracebee.language.compile import Compilation

MOST_FILES = 500


def add_imports(compilation: Compilation) -> None:
    """Add macros, probes, maps and C parts of the imported files to the program; each file once."""
    program, diagnostics = compilation.program, compilation.diagnostics
    seen: set[str] = set()
    pending = [(compilation.source.name, item) for item in program.imports]
    while pending:
        importer, item = pending.pop(0)
        found = compilation.machine.read_import(item.target, importer, compilation.options.include_paths)
        if isinstance(found, str):
            diagnostics.error(found, item.span)
            continue
        if not found:
            diagnostics.error("Unable to find suitable path for import", item.span, f"checked: {item.target}")
            continue
        for path, text in found:
            if path in seen:
                continue
            seen.add(path)
            if len(seen) > MOST_FILES:
                diagnostics.fail(f"more than {MOST_FILES} files are imported", item.span)
            pending += _add(compilation, path, text, item)


def _add(compilation: Compilation, path: str, text: str, item: tree.Import) -> list[tuple[str, tree.Import]]:
    """Take one file in; what it imports itself."""
    program = compilation.program
    source = Source(path, text)
    if path.endswith(".h"):
        program.c_parts.append(tree.CText(Span(source, 0, len(text))))
        return []
    if not path.endswith(".bt"):
        compilation.diagnostics.error(f"cannot import {path}: only .bt and .h files can be", item.span)
        return []
    inner = Diagnostics()
    parsed = Parser(source, inner).parse()
    for diagnostic in inner.all:
        compilation.diagnostics.error(diagnostic.message, diagnostic.span, diagnostic.hint)
    if parsed.config:
        compilation.diagnostics.error("imported scripts must not hold a config block", parsed.config[0].span)
    program.c_parts += parsed.c_parts
    program.macros += parsed.macros
    program.maps += parsed.maps
    program.probes += parsed.probes
    return [(path, one) for one in parsed.imports]
