"""``tracebee link pin``: a file in a bpf file system that keeps a link alive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.cli.selection import no_more, print_json, split_options, split_selector
from tracebee.errors import UsageError
from tracebee.kernel.ids import find_one
from tracebee.kernel.pinned import pin_object

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_pin(words: Sequence[str]) -> int:
    """Pin a link.  Raises TracebeeError."""
    options = split_options(words)
    selector, rest = split_selector(options.words)
    if not rest:
        raise UsageError("where to?", "tracebee link pin LINK PATH")
    no_more(rest[1:])
    link_id, fd = find_one("link", selector)
    try:
        pin_object(fd, rest[0])
    finally:
        os.close(fd)
    if options.wants_json:
        print_json(None, options)
    else:
        print(f"link {link_id} is pinned at {rest[0]}; `rm` ends it when nobody else holds it")
    return 0
