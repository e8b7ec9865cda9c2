"""From decoded values to what a reader sees.

base        what a session may ask of a renderer
values      the text of a value, by its type
stacks      the text of a call stack, by its mode
formats     printf: formats turned into Python's own, once
gfp         the names of page allocation flags
maps        the order, the keys and the division of a map's items, the same for every output
histogram   hist() and lhist() as rows and as buckets
series      tseries() as a picture and as points
text        the output that people read
json        the output that programs read: one object a line
tables      columns and blocks of facts that fit the terminal

Nothing here does I/O: a renderer is handed functions that take text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.render.base import Renderer, Writer

FORMATS = ("text", "json")
"""The names that `renderer` knows."""


def renderer(name: str, write: Writer, write_error: Writer) -> Renderer:
    """A renderer by its name, one of FORMATS.  Raises UsageError for another name.

    `write` takes what belongs on standard output, `write_error` what belongs on standard error.
    """
    if name == "text":
        from tracebee.render.text import TextRenderer

        return TextRenderer(write, write_error)
    if name == "json":
        from tracebee.render.json import JsonRenderer

        return JsonRenderer(write)
    from tracebee.errors import UsageError

    raise UsageError(f'Invalid output format "{name}"', f"known formats: {', '.join(FORMATS)}")
