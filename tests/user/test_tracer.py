"""What becomes of the targets when the tracer process itself goes wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import tracebee
from tracebee.engine.machine import EngineProgram
from tracebee.errors import EngineFault, InternalError
from tracebee.session.user.tracer import TracerProcess

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "tracepoint:syscalls:sys_enter_openat { @[str(args.filename)] = count(); }"


def fail(*_: object) -> None:
    raise RuntimeError("made up")


def test_a_bug_in_the_tracer_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target goes on, its watched calls too; the session says what has happened."""
    monkeypatch.setattr(TracerProcess, "on_items", fail)
    out = tmp_path / "out"
    command = ["sh", "-c", f"sleep 0.3; cat /etc/hostname >/dev/null && echo fine >{out}; exec sleep 30"]
    tracer = tracebee.load(SCRIPT, command=command, backend="user")
    with pytest.raises(InternalError, match="the tracer has failed: RuntimeError: made up"):
        tracer.attach()
        list(tracer.maps["@"].items())
    end = time.monotonic() + 20
    while time.monotonic() < end and not (out.exists() and out.read_text()):
        time.sleep(0.02)
    assert out.read_text() == "fine\n"
    with pytest.raises(InternalError):
        tracer.close()


def test_a_fault_of_a_program_ends_the_session_and_not_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler makes no programs that fault, so a run stands for one that does."""

    def fault(*_: object) -> None:
        raise EngineFault(
            "read of 8 bytes outside of the program's memory", 7, 0xDEAD, "probe", "@ = count();"
        )

    monkeypatch.setattr(EngineProgram, "run", fault)
    out = tmp_path / "out"
    command = ["sh", "-c", f"cat /etc/hostname >/dev/null && echo fine >{out}; exec sleep 30"]
    tracer = tracebee.load(SCRIPT, command=command, backend="user")
    with pytest.raises(EngineFault, match="instruction 7: read of 8 bytes") as raised:
        tracer.attach()
        tracer.wait(20)
    assert raised.value.address == 0xDEAD
    assert raised.value.hint == "the source there: @ = count();"
    end = time.monotonic() + 20
    while time.monotonic() < end and not (out.exists() and out.read_text()):
        time.sleep(0.02)
    assert out.read_text() == "fine\n"
    tracer.close()


def test_a_timer_whose_program_faults_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session hears of it once, and can be ended in order."""

    def fault(*_: object) -> None:
        raise EngineFault("it never ends", 1, program="interval")

    monkeypatch.setattr(EngineProgram, "run", fault)
    tracer = tracebee.load("interval:ms:1 { @ = count(); }", backend="user")
    with pytest.raises(EngineFault, match="it never ends"):
        tracer.attach()
        tracer.wait(20)
    time.sleep(0.05)  # more ticks, if there were any
    tracer.close()
