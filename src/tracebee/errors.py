"""The whole exception tree.

It is cut by what a caller would do about each branch::

    TracebeeError
    ├─ SourceError         the script is wrong                 .diagnostics
    ├─ UsageError          the call or command line is wrong   .hint
    ├─ FormatError         bytes from outside are bad          .what .offset   (ELF, BTF, records)
    ├─ NotSupportedError   this system lacks something         .feature .since .hint
    ├─ PermissionRefused   a right is missing                  .capability .hint
    ├─ TargetError         the process or file to trace        .target
    │  └─ GuestError       the virtual machine for it          .console
    ├─ VerifierError       the kernel refused a program        .program .log .errno .explanation
    ├─ AttachError         a probe could not be attached       .probe .reason .hint .explanation
    ├─ SyscallError        the kernel failed us                .call .errno    (also an OSError)
    │  └─ MapError         what cannot be done with a map      .map .operation .reason
    ├─ EngineFault         a program misbehaved in user space  .program .insn_index .address
    └─ InternalError       our own bug

Every class carries its facts as attributes; ``str()`` is for people.
"""

from __future__ import annotations

import errno as errno_names
import os
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.explain.explanation import Explanation
    from tracebee.language.diagnostics import Diagnostic


class TracebeeError(Exception):
    """Base of everything that tracebee raises on purpose.

    `hint` says what the reader can try, and is empty where there is nothing to say.
    """

    hint: str = ""


class SourceError(TracebeeError):
    """The script cannot be compiled; `diagnostics` holds every complaint, in source order."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(diagnostic.render() for diagnostic in self.diagnostics))


class UsageError(TracebeeError):
    """An argument of the command line or of the API makes no sense."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class FormatError(TracebeeError):
    """Bytes from outside do not follow their format.

    `what` names the format and the rule, `offset` is the byte position or None.
    """

    def __init__(self, what: str, offset: int | None = None) -> None:
        self.what = what
        self.offset = offset
        super().__init__(what if offset is None else f"{what} (at byte {offset:#x})")


class NotSupportedError(TracebeeError):
    """This kernel or machine lacks a feature; `since` is the first release that has it, or empty."""

    def __init__(self, feature: str, since: str = "", hint: str = "") -> None:
        self.feature = feature
        self.since = since
        self.hint = hint
        super().__init__(f"{feature} (since Linux {since})" if since else feature)


class PermissionRefused(TracebeeError):
    """A right is missing; `capability` names it as capabilities(7) does."""

    def __init__(self, action: str, capability: str, hint: str = "") -> None:
        self.action = action
        self.capability = capability
        self.hint = hint
        super().__init__(f"{action} needs {capability}")


class TargetError(TracebeeError):
    """What was to be traced does not exist or cannot be started."""

    def __init__(self, target: str, reason: str, hint: str = "") -> None:
        self.target = target
        self.reason = reason
        self.hint = hint
        super().__init__(f"{target}: {reason}" if target else reason)


class GuestError(TargetError):
    """A virtual machine crashed, hung or did not start; `console` are the last lines of its console."""

    def __init__(self, kernel: str, reason: str, console: str) -> None:
        self.console = console
        hint = f"the last lines of its console:\n{console}" if console else ""
        super().__init__(f"the guest with Linux {kernel}", reason, hint)


_KERNEL_NAMES = {95: "EOPNOTSUPP", 524: "ENOTSUPP"}
"""The C library has another name for the first, and none for the second, which is the kernel's own."""


class SyscallError(TracebeeError, OSError):
    """A system call failed.  `call` is the call with its command, `errno` the kernel's answer."""

    def __init__(self, call: str, errno: int, detail: str = "") -> None:
        self.call = call
        self.detail = detail
        OSError.__init__(self, errno, os.strerror(errno))

    @property
    def errno_name(self) -> str:
        """The symbolic name, such as EPERM."""
        number = self.errno or 0
        return _KERNEL_NAMES.get(number) or errno_names.errorcode.get(number, str(number))

    def __str__(self) -> str:
        text = f"{self.call}: {self.strerror} ({self.errno_name})"
        return f"{text}: {self.detail}" if self.detail else text


class MapError(SyscallError):
    """The kernel, or the engine, refuses something that was to be done with a map.

    `map` is its name, `operation` a word such as "update", `reason` what the errno means there.
    """

    def __init__(
        self, map_name: str, operation: str, errno: int, reason: str, hint: str = "", call: str = ""
    ) -> None:
        super().__init__(call or f"{operation} of map {map_name!r}", errno)
        self.map = map_name
        self.operation = operation
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.operation} of map {self.map!r}: {self.reason} ({self.errno_name})"


class VerifierError(TracebeeError):
    """BPF_PROG_LOAD refused a program.  `log` is the verifier's whole text and may be empty.

    `quiet_errno` is the answer to the same load without a log, 0 if it is not known: a full buffer makes ENOSPC.
    `spec` is the program (a `ProgramSpec`) and `btf` its type information, where they are at hand.
    """

    explainer: ClassVar[Callable[[VerifierError], Explanation] | None] = None
    """Makes the explanation; `tracebee.session` sets it, which knows the machine."""

    def __init__(
        self,
        program: str,
        errno: int,
        log: str,
        hint: str = "",
        *,
        quiet_errno: int = 0,
        spec: object = None,
    ) -> None:
        self.program = program
        self.errno = errno
        self.log = log
        self.hint = hint
        self.quiet_errno = quiet_errno
        self.spec = spec
        self.btf = b""
        self._explanation: Explanation | None = None
        name = errno_names.errorcode.get(errno, str(errno))
        super().__init__(f"the kernel refused program {program!r}: {os.strerror(errno)} ({name})")

    @property
    def explanation(self) -> Explanation | None:
        """Why, and what to change; made when it is first asked for.  None where nothing can explain."""
        if self._explanation is None and self.explainer is not None:
            self._explanation = self.explainer()
        return self._explanation


class AttachError(TracebeeError):
    """A program was loaded but could not be attached to its probe."""

    explainer: Callable[[], Explanation | None] | None = None
    """Makes the explanation; set by whoever knows the machine and the probe."""

    def __init__(self, probe: str, reason: str, hint: str = "") -> None:
        self.probe = probe
        self.reason = reason
        self.hint = hint
        self._explanation: Explanation | None = None
        super().__init__(f"cannot attach {probe}: {reason}")

    @property
    def explanation(self) -> Explanation | None:
        """Why, and what works in its place; made when it is first asked for.  None where nothing can explain."""
        if self._explanation is None and self.explainer is not None:
            self._explanation = self.explainer()
        return self._explanation


class EngineFault(TracebeeError):
    """A program running in the user-space engine did something that it may not do.

    `insn_index` counts slots of 8 bytes, as disassemblies do.  `program` is its name, `line` its source as
    far as that is known, `nearest` says how `address` lies to the memory that the program has; each may be empty.
    """

    def __init__(
        self,
        reason: str,
        insn_index: int,
        address: int | None = None,
        program: str = "",
        line: str = "",
        nearest: str = "",
    ) -> None:
        self.reason = reason
        self.insn_index = insn_index
        self.address = address
        self.program = program
        self.line = line
        self.nearest = nearest
        self.hint = f"the source there: {line}" if line else ""
        place = f"program {program!r}, instruction {insn_index}" if program else f"instruction {insn_index}"
        where = f" at address {address:#x}" if address is not None else ""
        beside = f" ({nearest})" if nearest else ""
        super().__init__(f"{place}: {reason}{where}{beside}")


class InternalError(TracebeeError):
    """A bug in tracebee itself."""

    hint = "this is a bug in tracebee; please report it with the script that caused it"
