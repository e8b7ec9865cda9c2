"""What an Inferior stops its threads for."""

from __future__ import annotations

from tracebee.records import Mutable

# include/uapi/asm-generic/mman-common.h
PROT_WRITE = 2
PROT_EXEC = 4


class Watch(Mutable):
    """System calls are numbers of the machine's own ABI.

    `every_abi` says that the calls of 32-bit programs (and of x32) are wanted too, all of them: their entries if
    `enter` is not empty, their exits if `exit` is not.  `signals` asks for the deliveries of signals.  `libraries`
    asks for new executable mappings of files: breakpoints may have to go there; `data` for their writable mappings
    too, where semaphores of USDT probes lie.
    """

    enter: frozenset[int] = frozenset()
    exit: frozenset[int] = frozenset()
    every_abi: bool = False
    signals: bool = False
    libraries: bool = False
    data: bool = False

    @property
    def protections(self) -> int:
        """The bits of mmap(2)'s third argument with one of which a mapping of a file is looked at."""
        return (PROT_EXEC if self.libraries else 0) | (PROT_WRITE if self.libraries and self.data else 0)
