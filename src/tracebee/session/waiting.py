"""Waiting for descriptors, in a thread or in an event loop of asyncio."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SLICE = 0.25
"""Seconds after which whoever waits looks around: what was meant for it may have come with somebody else's."""


class Poller:
    """Descriptors that are waited for together."""

    def __init__(self, fds: Iterable[int]) -> None:
        """Those below 0 are left out."""
        self._epoll = select.epoll()
        for fd in fds:
            if fd >= 0:
                self._epoll.register(fd, select.EPOLLIN)

    def fileno(self) -> int:
        """A descriptor that is readable when one of them is."""
        return self._epoll.fileno()

    def wait(self, seconds: float) -> bool:
        """Whether one has become readable before the time is over."""
        return bool(self._epoll.poll(seconds))

    async def wait_async(self, seconds: float) -> bool:
        """The same without holding up the event loop."""
        return await readable(self._epoll.fileno(), seconds)

    def close(self) -> None:
        self._epoll.close()


async def readable(fd: int, seconds: float) -> bool:
    """Whether a descriptor becomes readable before the time is over.

    The loop watches it only for so long: whoever is cancelled leaves nothing behind.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def settle(answer: bool) -> None:
        if not future.done():
            future.set_result(answer)

    timer = loop.call_later(max(seconds, 0.0), settle, False)
    loop.add_reader(fd, settle, True)
    try:
        return await future
    finally:
        loop.remove_reader(fd)
        timer.cancel()
