"""The formats of bpf_trace_printk and bpf_snprintf (bpf_bprintf_prepare in kernel/bpf/helpers.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.engine.calls.reads import USER_LIMIT, kernel_reader, kernel_string_reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.runtime import Runtime

    # How an address is to be shown (p, s, pI4 …), and the address → text
    Fill = Callable[[str, int], bytes]

LONGEST_STRING = 511
"""Less than MAX_BPRINTF_BUF of linux/bpf.h: what the kernel keeps for the texts of one print."""

_CONVERSION = re.compile(
    r"(?P<flags>[0+\- ]*)(?P<width>[1-9][0-9]{0,4})?"
    r"(?:(?P<special>p(?:[ku]s|[iI][46]|[KxsSB])|p(?![A-Za-z0-9])|s)|(?P<char>c)|(?P<long>ll?)?(?P<number>[diuxX]))"
)


def formatter_of(machine: Runtime) -> Fill:
    """What prints things by their address, on a machine."""
    world = machine.world
    kernel_bytes, kernel_text = kernel_reader(machine), kernel_string_reader(machine)

    def text_at(kind: str, address: int) -> bytes | None:
        if kind == "pus" or (kind == "s" and address < USER_LIMIT):
            return world.read_user_string(address, LONGEST_STRING)
        return kernel_text(address, LONGEST_STRING)

    def fill(kind: str, address: int) -> bytes:
        if kind in ("s", "pks", "pus"):
            return text_at(kind, address) or b""
        if kind in ("pi4", "pI4", "pi6", "pI6"):
            size = 4 if kind[-1] == "4" else 16
            return _ip(kind, kernel_bytes(address, size) or bytes(size))
        # Neither names nor secrets: symbols (%ps, %pS, %pB) stay numbers, and pointers are not hashed.
        return b"0x%x" % address if kind in ("ps", "pS", "pB") else b"%016x" % address

    return fill


def _ip(kind: str, data: bytes) -> bytes:
    """An address of the network: %pi4 pads with zeros, %pi6 lacks the colons, and %pI6 shortens nothing."""
    if kind == "pI4":
        return b"%d.%d.%d.%d" % tuple(data)
    if kind == "pi4":
        return b"%03d.%03d.%03d.%03d" % tuple(data)
    return (b":" if kind == "pI6" else b"").join([data[at : at + 2].hex().encode() for at in range(0, 16, 2)])


def format_text(form: bytes, values: list[int], fill: Fill) -> bytes | None:
    """The text of a format and its arguments; None where the kernel answers EINVAL.

    Arguments that the format has no use for are ignored.
    """
    if any(byte > 126 or (byte < 32 and byte not in b"\t\n\v\f\r") for byte in form):
        return None
    rest = form.decode("ascii")
    parts: list[bytes] = []
    left = iter(values)
    while True:
        before, percent, rest = rest.partition("%")
        parts.append(before.encode())
        if not percent:
            return b"".join(parts)
        if rest.startswith("%"):
            parts.append(b"%")
            rest = rest[1:]
            continue
        match = _CONVERSION.match(rest)
        value = next(left, None)
        if match is None or value is None:
            return None
        rest = rest[match.end() :]
        parts.append(_converted(match, value, fill))


def _converted(match: re.Match[str], value: int, fill: Fill) -> bytes:
    flags, width = match["flags"], int(match["width"] or 0)
    if match["number"]:
        bits = 64 if match["long"] else 32
        value &= (1 << bits) - 1
        if match["number"] in "di" and value >> (bits - 1):
            value -= 1 << bits
        code = "d" if match["number"] in "diu" else match["number"]
        if match["number"] not in "di":
            flags = flags.replace("+", "").replace(" ", "")
        if "-" in flags:
            flags = flags.replace("0", "")
        return (f"%{flags}{width or ''}{code}" % value).encode()
    text = bytes([value & 0xFF]) if match["char"] else fill(match["special"], value)
    return text.ljust(width) if "-" in flags else text.rjust(width)
