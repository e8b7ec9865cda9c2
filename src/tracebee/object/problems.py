"""What is wrong with an object: raised at once, or kept so that the rest can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.errors import FormatError

MOST_KEPT = 1000
"""A spoilt object can have as many faults as bytes."""


class Problems:
    """Takes each FormatError as it comes up.

    Who wants to run an object raises the first.  Who wants to look at it keeps them in `found`, and goes on
    without the part that could not be read.
    """

    def __init__(self, keeps: bool = False) -> None:
        self.keeps = keeps
        self.found: list[FormatError] = []

    def take(self, error: FormatError) -> None:
        """Keep `error`, or raise it."""
        if not self.keeps:
            raise error
        if len(self.found) < MOST_KEPT:
            # Without the frames that it went through, which hold the whole object.
            self.found.append(error.with_traceback(None))
