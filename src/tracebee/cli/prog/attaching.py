"""``tracebee prog pin``, ``attach`` and ``detach``."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.cli.selection import no_more, split_options, split_selector
from tracebee.errors import AttachError, SyscallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

TO_MAPS = {
    "sk_msg_verdict": "SK_MSG_VERDICT",
    "sk_skb_verdict": "SK_SKB_VERDICT",
    "sk_skb_stream_verdict": "SK_SKB_STREAM_VERDICT",
    "sk_skb_stream_parser": "SK_SKB_STREAM_PARSER",
}
"""What is attached to a map of sockets, by bpftool's word."""

TO_NAMESPACE = {"flow_dissector": "FLOW_DISSECTOR"}
"""What is attached to our network namespace."""


def run_pin(words: Sequence[str]) -> int:
    """Give a program a path in a bpf file system, which keeps it loaded.  Raises TracebeeError."""
    options = split_options(words)
    selector, rest = split_selector(options.words)
    if not rest:
        raise UsageError(
            "pin it where?", "the path of a new file in a bpf file system, such as /sys/fs/bpf/NAME"
        )
    path, *rest = rest
    no_more(rest)

    from tracebee.kernel.ids import find_one
    from tracebee.kernel.pinned import pin_object

    _, fd = find_one("prog", selector)
    try:
        pin_object(fd, path)
    finally:
        os.close(fd)
    return 0


def run_attach(words: Sequence[str]) -> int:
    """Attach a program to a map of sockets, or to our network namespace.  Raises TracebeeError."""
    return _change(words, attach=True)


def run_detach(words: Sequence[str]) -> int:
    """Detach a program from where run_attach put it.  Raises TracebeeError."""
    return _change(words, attach=False)


def _change(words: Sequence[str], *, attach: bool) -> int:
    selector, attach_type, map_selector = parse_place(split_options(words).words)

    from tracebee.kernel.ids import find_one
    from tracebee.syscalls.bpflinks import prog_attach, prog_detach

    _, prog_fd = find_one("prog", selector)
    target_fd = 0
    try:
        if map_selector:
            _, target_fd = find_one("map", map_selector)
        try:
            if attach:
                prog_attach(target_fd, prog_fd, attach_type)
            else:
                prog_detach(target_fd, prog_fd, attach_type)
        except SyscallError as error:
            raise _explained(error, attach_type, attach) from error
    finally:
        os.close(prog_fd)
        if map_selector and target_fd:
            os.close(target_fd)
    return 0


def parse_place(words: Sequence[str]) -> tuple[list[str], str, list[str]]:
    """Selector of the program, name of the attach type, selector of the map or [].  Raises UsageError."""
    selector, rest = split_selector(words)
    known = {**TO_MAPS, **TO_NAMESPACE}
    if not rest or rest[0] not in known:
        what = f"no attach type is called {rest[0]!r}" if rest else "attached as what?"
        raise UsageError(
            what,
            f"{', '.join(known)}; what has a link or a section name is attached by `tracebee load`",
        )
    name, *rest = rest
    if name in TO_NAMESPACE:
        no_more(rest)
        return selector, TO_NAMESPACE[name], []
    if not rest:
        raise UsageError(f"{name} wants a map of sockets behind it", "such as `id 5` or `pinned PATH`")
    map_selector, rest = split_selector(rest)
    no_more(rest)
    return selector, TO_MAPS[name], map_selector


def _explained(error: SyscallError, attach_type: str, attach: bool) -> Exception:
    """What a refusal means."""
    reasons = {
        errno.EINVAL: "the program or the map is of another type",
        errno.EOPNOTSUPP: "the map does not take such programs",
        errno.ENOENT: "it is not attached there",
        errno.EEXIST: "another program is there already",
        errno.EBUSY: "another program is there already",
        errno.EPERM: "CAP_NET_ADMIN is missing",
    }
    reason = reasons.get(error.errno or 0)
    if reason is None:
        return error
    verb = "attach" if attach else "detach"
    made = AttachError(attach_type.lower(), reason)
    made.args = (f"cannot {verb} {attach_type.lower()}: {reason} ({error.errno_name})",)
    return made
