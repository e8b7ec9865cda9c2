"""Many kernel functions by few links (BPF_TRACE_KPROBE_MULTI, Linux 5.18)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link
from tracebee.spec.objects import KprobeMulti
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

REFUSED = (errno.ESRCH, errno.ENOENT, errno.EINVAL, errno.EBUSY, errno.EADDRNOTAVAIL, errno.ENODEV)
"""What the kernel says of a list in which one function cannot be hooked; it does not say which."""

MOST_SKIPPED = 64
"""A list with more bad functions than this is no list of functions."""


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """A link by name, and one by address for what shares a name or lies in a module.

    A list that the kernel refuses is halved until the bad functions are found, which are left out if the probe
    is optional.  Raises AttachError.
    """
    place = probe.attach
    assert isinstance(place, KprobeMulti)
    names: list[tuple[str | int, int]] = []
    addresses: list[tuple[str | int, int]] = []
    for cookie, one in enumerate(place.functions):
        found = context.addresses(one.function, one.module) if one.copies > 1 or one.module else []
        if found:
            addresses += [(address, cookie) for address in found]
        else:
            names.append((one.function, cookie))
    made = _Attachment(program, place)
    try:
        made.add(names)
        made.add(addresses)
        if not made.fds and made.failure is not None:
            raise made.failure
    except SyscallError as error:
        Link(made.fds).close()
        raise AttachError(probe.name, str(error), _hint(error, context, place)) from error
    kind = "kretprobe" if place.returns else "kprobe"
    skipped = [
        (f"{kind}:{one.function}", str(made.failure))
        for cookie, one in enumerate(place.functions)
        if cookie not in made.reached
    ]
    if skipped and not probe.optional:
        Link(made.fds).close()
        raise AttachError(skipped[0][0], skipped[0][1]) from made.failure
    return Link(made.fds, skipped, tuple(made.fds))


def _hint(error: SyscallError, context: Context, place: KprobeMulti) -> str:
    if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
        return ""
    if context.features.has("kprobe_session" if place.session else "kprobe_multi"):
        return ""
    if place.session:
        return "this kernel has no kprobe.session (since Linux 6.10, with CONFIG_FPROBE)"
    return (
        "this kernel has no kprobe.multi (since Linux 5.18, with CONFIG_FPROBE): name a function with kprobe/"
    )


class _Attachment:
    """Links being made.  `reached` are the cookies of the functions that have one."""

    def __init__(self, program: Program, place: KprobeMulti) -> None:
        self.program = program
        self.returns = place.returns
        self.session = place.session
        self.fds: list[int] = []
        self.reached: set[int] = set()
        self.failure: SyscallError | None = None
        self._bad = 0

    def add(self, part: Sequence[tuple[str | int, int]]) -> None:
        """Hook functions, all by name or all by address, each with its cookie."""
        if not part:
            return
        cookies = [cookie for _, cookie in part]
        names = [place for place, _ in part if isinstance(place, str)]
        addresses = [place for place, _ in part if isinstance(place, int)]
        try:
            fd = bpf.link_kprobes(
                self.program.fd,
                cookies,
                names=names,
                addresses=addresses,
                returns=self.returns,
                attach_type="TRACE_KPROBE_SESSION" if self.session else "TRACE_KPROBE_MULTI",
            )
        except SyscallError as error:
            if error.errno not in REFUSED:
                raise
            self.failure = error
            if len(part) > 1:
                half = len(part) // 2
                self.add(part[:half])
                self.add(part[half:])
                return
            self._bad += 1
            if self._bad > MOST_SKIPPED:
                raise
            return
        self.fds.append(fd)
        self.reached.update(cookies)
