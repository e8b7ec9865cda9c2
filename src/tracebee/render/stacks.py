"""The text of a call stack, by its mode.

It starts with a newline and every frame ends with one, so that ``print(kstack)`` stands apart from what is
around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.spec.values import Frame, StackTrace


def stack_text(stack: StackTrace) -> str:
    """The text of a stack; it is made once and kept on the stack."""
    if stack.text is None:
        line = _LINES.get(stack.mode, _bpftrace)
        stack.text = "".join(["\n", *[line(frame, stack.user) for frame in stack.frames]])
    return stack.text


def _bpftrace(frame: Frame, user: bool) -> str:
    if not frame.name:
        return f"        0x{frame.address:x}\n"
    source = f"@{frame.source}" if frame.source else ""
    if frame.inlined:
        return f"        [inlined] {frame.name}{source}\n"
    return f"        {frame.name}+{frame.offset}{source}\n"


def _perf(frame: Frame, user: bool) -> str:
    if frame.inlined:
        return f"\t{frame.address:x} {frame.name} (inlined)\n"
    name = f"{frame.name}+{frame.offset}" if frame.name else f"0x{frame.address:x}"
    path = f" ({frame.path or '[unknown]'})" if user else ""
    return f"\t{frame.address:x} {name}{path}\n"


def _raw(frame: Frame, user: bool) -> str:
    return f"{frame.address:x}\n"


def _build_id(frame: Frame, user: bool) -> str:
    """`path` holds the build id and `offset` the place in the file; a frame outside of any is an address."""
    if not frame.path:
        return f"{frame.address:x}\n"
    return f"{frame.path} 0x{frame.offset:x}\n"


_LINES = {"bpftrace": _bpftrace, "perf": _perf, "raw": _raw, "build_id": _build_id}
