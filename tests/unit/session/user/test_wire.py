"""Frames survive any way in which a socket cuts them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.session.user import wire

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[wire.Outbox, wire.Inbox]]:
    there, here = os.pipe()
    outbox = wire.Outbox(here)
    yield outbox, wire.Inbox(there)
    os.close(there)
    if outbox.fd >= 0:
        os.close(here)


def send(outbox: wire.Outbox, data: bytes) -> None:
    outbox.add(data)
    outbox.flush(wait=True)


def close(outbox: wire.Outbox) -> None:
    os.close(outbox.fd)
    outbox.fd = -1


def values(inbox: wire.Inbox) -> list[tuple[int, Any]]:
    return [
        (kind, body if kind == wire.RECORDS else wire.value_of(body)) for kind, body in list(inbox.frames())
    ]


def test_values_and_bytes(ends: tuple[wire.Outbox, wire.Inbox]) -> None:
    here, inbox = ends
    request = ("put", "@", b"\0\xff", 1 << 64, None, -1, [(b"", "ä")])
    send(here, wire.pack(wire.REQUEST, request) + wire.pack_bytes(wire.RECORDS, memoryview(b"12345678")))
    assert inbox.fill(wait=True)
    assert values(inbox) == [(wire.REQUEST, request), (wire.RECORDS, b"12345678")]
    assert values(inbox) == []


def test_a_frame_in_pieces(ends: tuple[wire.Outbox, wire.Inbox]) -> None:
    here, inbox = ends
    frame = wire.pack(wire.NOTICE, "text")
    for byte in frame[:-1]:
        send(here, bytes([byte]))
        assert inbox.fill(wait=True)
        assert values(inbox) == []
    send(here, frame[-1:] + frame[:3])
    inbox.fill(wait=True)
    assert values(inbox) == [(wire.NOTICE, "text")]
    send(here, frame[3:])
    inbox.fill(wait=True)
    assert values(inbox) == [(wire.NOTICE, "text")]


def test_nothing_there_and_nobody_there(ends: tuple[wire.Outbox, wire.Inbox]) -> None:
    here, inbox = ends
    assert inbox.fill(wait=False)
    close(here)
    assert not inbox.fill(wait=False)
    assert not inbox.fill(wait=True)


def test_what_came_before_the_end_is_read(ends: tuple[wire.Outbox, wire.Inbox]) -> None:
    here, inbox = ends
    send(here, wire.pack(wire.ANSWER, 5))
    close(here)
    assert inbox.fill(wait=True)
    assert values(inbox) == [(wire.ANSWER, 5)]


def test_a_full_pipe_takes_the_rest_later(ends: tuple[wire.Outbox, wire.Inbox]) -> None:
    here, inbox = ends
    body = bytes(range(256)) * 2048
    here.add(wire.pack_bytes(wire.RECORDS, body))
    here.flush()
    assert 0 < len(here) < len(body)
    found: list[tuple[int, bytes]] = []
    while not found:
        inbox.fill(wait=True)
        here.flush()
        found = list(inbox.frames())
    assert found == [(wire.RECORDS, body)]
    assert len(here) == 0


def test_a_reader_that_has_gone(ends: tuple[wire.Outbox, wire.Inbox]) -> None:
    here, inbox = ends
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, inbox.fd)
    os.close(null)
    send(here, wire.pack(wire.ANSWER, 5))
    assert here.is_broken
