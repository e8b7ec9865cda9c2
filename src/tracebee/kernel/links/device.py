"""Network interfaces, by name."""

from __future__ import annotations

import socket

from tracebee.errors import TargetError


def index_of(interface: str) -> int:
    """The number of a network interface in our network namespace, by name or number.  Raises TargetError."""
    if interface.isascii() and interface.isdigit():
        return int(interface)
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        from difflib import get_close_matches

        names = [name for _, name in socket.if_nameindex()]
        near = get_close_matches(interface, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise TargetError(interface, "there is no such network interface", hint) from None
