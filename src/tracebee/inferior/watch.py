"""What an Inferior stops its threads for."""

from __future__ import annotations

from tracebee.records import Mutable


class Watch(Mutable):
    """System calls are numbers of the machine's own ABI.

    `every_abi` says that the calls of 32-bit programs (and of x32) are wanted too, all of them: their entries if
    `enter` is not empty, their exits if `exit` is not.  `signals` asks for the deliveries of signals.  `libraries`
    asks for new executable mappings of files: breakpoints may have to go there.
    """

    enter: frozenset[int] = frozenset()
    exit: frozenset[int] = frozenset()
    every_abi: bool = False
    signals: bool = False
    libraries: bool = False
