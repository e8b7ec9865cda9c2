"""Guests are started when collection has ended, so that they work while the tests of other tiers run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..caselib import TARGETS, build_target
from .guests import KERNELS, GuestCases, start, started

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = {item.callspec.params["kernel"] for item in session.items if is_guest_case(item)}
    if not wanted or session.config.option.collectonly:
        return
    targets = Path(tempfile.mkdtemp(prefix="tracebee-targets-"))
    try:
        for source in TARGETS.glob("*.c"):
            build_target(source.stem, targets)
    except FileNotFoundError:
        pass  # the cases that want one say so
    for kernel in KERNELS:
        if kernel in wanted:
            started[kernel] = start(kernel, targets)


def is_guest_case(item: pytest.Item) -> bool:
    ours = item.path.parent == Path(__file__).parent
    return ours and hasattr(item, "callspec") and "kernel" in item.callspec.params


@pytest.fixture(scope="session", autouse=True)
def ended() -> Iterator[None]:
    yield
    for guest in started.values():
        if isinstance(guest, GuestCases):
            guest.close()
