"""``tracebee link detach``: the program no longer runs, whoever holds the link."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.cli import facts as say
from tracebee.cli.selection import no_more, print_json, split_options, split_selector
from tracebee.errors import NotSupportedError, SyscallError
from tracebee.kernel.ids import find_one

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_detach(words: Sequence[str]) -> int:
    """Detach a link.  Raises TracebeeError; NotSupportedError for a kind that only its owners can end."""
    from tracebee.kernel.info import link_info
    from tracebee.syscalls.bpflinks import link_detach

    options = split_options(words)
    selector, rest = split_selector(options.words)
    no_more(rest)
    link_id, fd = find_one("link", selector)
    try:
        try:
            link_detach(fd)
        except SyscallError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            kind = say.word(link_info(fd, names=False).type)
            raise NotSupportedError(f"detaching a link of type {kind}", hint=_way_out(link_id)) from error
    finally:
        os.close(fd)
    if options.wants_json:
        print_json(None, options)
    else:
        print(f"link {link_id} is detached; it stays as long as somebody holds it")
    return 0


def _way_out(link_id: int) -> str:
    """How such a link ends: when nobody holds it any more."""
    from tracebee.host.holders import read_holders
    from tracebee.kernel.pinned import read_pins

    holders = read_holders().of("link", link_id)
    pins = read_pins().get(("link", link_id), ())
    parts = [f"the end of {say.owners(holders)}"] if holders else []
    parts += [f"`rm {path}`" for path in pins]
    if not parts:
        return "it ends when nobody holds it any more"
    return f"it ends with its last holder: {' and '.join(parts)}"
