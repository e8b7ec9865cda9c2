#!/usr/bin/env python3
"""Which files are opened, and how that goes: the Python half of opensnoop.bpf.c."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import tracebee

if TYPE_CHECKING:
    from collections.abc import Sequence

OBJECT = Path(__file__).with_name("opensnoop.bpf.o")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Show the files that are opened.")
    parser.add_argument("-p", "--pid", type=int, default=0, help="only this process")
    parser.add_argument("-u", "--uid", type=int, default=-1, help="only this user")
    parser.add_argument("-x", "--failed", action="store_true", help="only what fails")
    parser.add_argument(
        "-T", "--timestamp", action="store_true", help="seconds since the first event in front"
    )
    parser.add_argument("-d", "--duration", type=float, help="seconds to go on for")
    parser.add_argument("-c", "--command", help="start a command, and show what it opens, until it ends")
    parser.add_argument("--backend", default="auto", help="kernel, user (ptrace: with -c or -p), or auto")
    options = parser.parse_args(words)

    constants = {
        "targ_tgid": options.pid,
        "targ_uid": options.uid & 0xFFFFFFFF,
        "targ_failed": options.failed,
    }
    with tracebee.Object.from_elf(OBJECT, constants=constants) as snoop:
        # arm64 has no open(2), and so no tracepoint of it.
        for name in ("enter_open", "exit_open"):
            snoop.programs[name].autoload = os.uname().machine == "x86_64"
        snoop.load(
            options.backend,
            pid=options.pid,
            command=options.command,
            command_pid="targ_tgid" if options.command else "",
        )
        events = snoop.events("events", "event", timeout=options.duration)
        snoop.attach()
        show(events, options.timestamp)
    return 0


def show(events: tracebee.EventStream, with_time: bool) -> None:
    print(f"{'TIME(s)':<12}" * with_time + f"{'PID':<7} {'COMM':<16} {'FD':>3} {'ERR':>3} PATH")
    start = 0
    for event in events:
        if isinstance(event, tracebee.Lost):
            print(f"({event.count} events were lost)")
            continue
        start = start or event.when
        fd, error = (event.ret, 0) if event.ret >= 0 else (-1, -event.ret)
        time = f"{(event.when - start) / 1e9:<12.6f}" if with_time else ""
        print(f"{time}{event.pid:<7} {event.comm:<16} {fd:>3} {error:>3} {event.path}", flush=True)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except tracebee.TracebeeError as error:
        raise SystemExit(f"{error}\n{error.hint}".rstrip()) from None
    except KeyboardInterrupt:
        pass
