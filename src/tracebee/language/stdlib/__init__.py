"""The library: macros in the language itself, in the .bt files of this folder.

A file is parsed when a script first uses a name that is not the script's own and is in the table below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import parse
from tracebee.language.source import Source

if TYPE_CHECKING:
    from tracebee.language import tree

NAMES = {
    "base": frozenset(("assert", "static_assert", "ppid", "pcomm", "leader_tid", "leader_comm")),
}
_parsed: dict[str, list[tree.Macro]] = {}


def library_macros(name: str) -> list[tree.Macro]:
    """The library's macros of this name, all overloads."""
    for file, names in NAMES.items():
        if name in names:
            if file not in _parsed:
                from importlib.resources import files

                text = files(__package__).joinpath(f"{file}.bt").read_text(encoding="utf-8")
                _parsed[file] = parse(Source(f"stdlib/{file}.bt", text), Diagnostics()).macros
            return [macro for macro in _parsed[file] if macro.name == name]
    return []
