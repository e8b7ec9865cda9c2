"""``tracebee object link``: many objects to one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.session.objects.btffile import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_link(words: Sequence[str]) -> int:
    """Run ``tracebee object link``; the exit status.  Raises TracebeeError."""
    from tracebee.object.linkmany import link_objects

    files: list[str] = []
    output = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-o", "--output"):
            if not rest:
                raise UsageError("-o: which file?")
            output = rest.pop(0)
        elif word.startswith("-") and word != "-":
            raise UsageError(f"unknown option {word}", "the only option is -o OUT.o")
        else:
            files.append(word)
    if not output or not files:
        raise UsageError("what is to be linked, and to what?", "tracebee object link -o OUT.o A.o B.o")
    for file in files:
        if os.path.exists(output) and os.path.exists(file) and os.path.samefile(file, output):
            raise UsageError(f"{output} is to be read and to be written", "give another file behind -o")
    data = link_objects([(file, read_file(file)) for file in files])
    try:
        with open(output, "wb") as out:
            out.write(data)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from None
    return 0
