"""What is mounted where, from /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

from typing import NamedTuple


class Mount(NamedTuple):
    """A mount: where, what kind of file system, which of its directories is shown, its own options."""

    path: str
    kind: str
    root: str
    options: str


def parse_mounts(mountinfo: str) -> list[Mount]:
    """The mounts in order; lines that are not of the form are left out."""
    mounts = []
    for line in mountinfo.split("\n"):
        head, separator, tail = line.partition(" - ")
        fields, kinds = head.split(" "), tail.split(" ")
        if separator and len(fields) >= 6:
            options = kinds[2] if len(kinds) > 2 else ""
            mounts.append(Mount(unescape(fields[4]), kinds[0], unescape(fields[3]), options))
    return mounts


def unescape(text: str) -> str:
    """mountinfo writes blanks, newlines and backslashes as three octal digits."""
    for code in (" ", "\t", "\n", "#"):
        text = text.replace(f"\\{ord(code):03o}", code)
    return text.replace("\\134", "\\")
