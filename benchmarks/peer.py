"""Finds the bpftrace to compare with.

It is a command: ``--peer``, else TRACEBEE_BENCH_PEER, else ``bpftrace`` on the path.  If it lives in another
root file system (``--peer-root``, TRACEBEE_BENCH_PEER_ROOT), the benchmark enters a mount namespace of its own
once, gives that root the system's /proc, /sys, /dev and tracefs, and each run is a chroot(2) and an
exec: no mount and no shell is in the peer's figures, as they are when the peer is a wrapper script.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from benchmarks.harness import BenchmarkError, Tool, run

_INSIDE = "TRACEBEE_BENCH_INSIDE"
"""Set in the environment once the mounts have been made."""


def find_peer(command: str, root: str) -> Tool | None:
    """The peer, or None if there is none.

    Raises BenchmarkError if a peer that was asked for is not there.
    """
    asked = command or os.environ.get("TRACEBEE_BENCH_PEER", "")
    root = (root or os.environ.get("TRACEBEE_BENCH_PEER_ROOT", "")).rstrip("/")
    words = tuple(shlex.split(asked or "bpftrace"))
    if root:
        enter_namespace(root)
        return Tool("bpftrace", words, root)
    if shutil.which(words[0]) is None:
        if asked:
            raise BenchmarkError(f"the peer {asked!r} cannot be run")
        return None
    return Tool("bpftrace", words)


def enter_namespace(root: str) -> None:
    """Start this program anew in a mount namespace where the peer's root has what a tracer needs."""
    if os.environ.get(_INSIDE) == root:
        return
    mounts = " && ".join(
        [f'mount --rbind {folder} "$0{folder}"' for folder in ("/proc", "/sys", "/dev")]
        + ['{ test -d "$0/sys/kernel/tracing/events" || mount -t tracefs none "$0/sys/kernel/tracing"; }']
    )
    again = shlex.join([sys.executable, "-m", "benchmarks", *sys.argv[1:]])
    os.environ[_INSIDE] = root
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", f"{mounts} && exec {again}", root])


def version(tool: Tool) -> str:
    """What the tool calls itself."""
    ended = run(tool, "--version")
    return (ended.output + ended.errors).decode("utf-8", "replace").strip().splitlines()[0]


def describe(tool: Tool) -> str:
    """How the tool was started, with a warning if something stands in front of it."""
    words = shlex.join(tool.command)
    if tool.root:
        return f"`{words}` by chroot(2) into its root and exec, without a wrapper"
    path = shutil.which(tool.command[0]) or ""
    try:
        with open(path, "rb") as file:
            script = file.read(2) == b"#!"
    except OSError:
        script = False
    if script and tool.name != "tracebee":
        return f"`{words}`, which is a script: its own time and memory are in the figures"
    return f"`{words}`"


def kernel() -> str:
    """The kernel's release and machine, and how many CPUs are there to run on."""
    facts = os.uname()
    return f"{facts.sysname} {facts.release} {facts.machine}, {len(os.sched_getaffinity(0))} CPUs"


def bpftool(*arguments: str) -> bytes:
    """What bpftool prints.  Raises BenchmarkError if it cannot be run or fails."""
    try:
        done = subprocess.run(["bpftool", *arguments], capture_output=True, timeout=60, check=False)
    except OSError as error:
        raise BenchmarkError(f"bpftool cannot be run: {error}") from None
    if done.returncode:
        raise BenchmarkError(f"bpftool {' '.join(arguments)}: {(done.stdout + done.stderr).decode().strip()}")
    return done.stdout
