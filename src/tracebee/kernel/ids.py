"""Everything that is loaded into this kernel, by id, tag, name or the path where it is pinned.

A kind of object is "prog", "map", "link" or "btf".  Ids of one kind are given in turn and not soon used again;
an object may go between the moment when its id is read and the one when it is opened, and that is no error.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError, PermissionRefused, SyscallError, TargetError, UsageError
from tracebee.syscalls import bpfids

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

KINDS = bpfids.KINDS

WORDS = {"prog": "program", "map": "map", "link": "link", "btf": "BTF object"}
"""What the kinds are called in messages."""

BPF_F_RDONLY = 1 << 3

HINT = "ids are root's alone: the kernel asks for CAP_SYS_ADMIN in the initial user namespace"


def walk(kind: str) -> Generator[tuple[int, int], None, None]:
    """All objects of a kind: id and descriptor.  The descriptor is closed when the next one is asked for.

    Raises PermissionRefused, and NotSupportedError where the kernel does not know the kind.
    """
    last = 0
    while True:
        try:
            following = bpfids.next_id(kind, last)
        except SyscallError as error:
            raise explained(error, kind) from error
        if following is None or following <= last:
            return
        last = following
        try:
            fd = open_if_there(kind, last)
        except SyscallError as error:
            raise explained(error, kind) from error
        if fd is None:
            continue
        try:
            yield last, fd
        finally:
            os.close(fd)


def walk_ids(kind: str) -> Iterator[int]:
    """The ids alone; an object may be gone when its id is used.  Raises as `walk`."""
    last = 0
    while True:
        try:
            following = bpfids.next_id(kind, last)
        except SyscallError as error:
            raise explained(error, kind) from error
        if following is None or following <= last:
            return
        last = following
        yield last


def open_if_there(kind: str, object_id: int) -> int | None:
    """A descriptor of an object, or None if there is no such id (any more).  Raises SyscallError."""
    try:
        return bpfids.fd_by_id(kind, object_id)
    except SyscallError as error:
        if error.errno == errno.ENOENT:
            return None
        if error.errno in (errno.EPERM, errno.EACCES) and kind == "map":
            # A security module may guard maps against writing alone (hook bpf_map).
            with contextlib.suppress(SyscallError):
                return bpfids.fd_by_id(kind, object_id, BPF_F_RDONLY)
        raise


def open_id(kind: str, object_id: int) -> int:
    """A descriptor of an object.  Raises TargetError if there is none, PermissionRefused."""
    if not 0 < object_id < 1 << 32:
        raise UsageError(f"{object_id} is no id of a {WORDS[kind]}", "ids are numbers from 1 on")
    try:
        fd = open_if_there(kind, object_id)
    except SyscallError as error:
        raise explained(error, kind) from error
    if fd is None:
        raise TargetError("", f"there is no {WORDS[kind]} with id {object_id}", _listing_hint(kind))
    return fd


def open_pin(kind: str, path: str) -> int:
    """A descriptor of what is pinned at a path.

    Raises TargetError if there is nothing, or an object of another kind, and PermissionRefused.
    """
    try:
        fd = bpfids.object_get(path)
    except SyscallError as error:
        raise _pin_error(error, path) from error
    found = bpfids.kind_of_fd(fd)
    if found == kind:
        return fd
    os.close(fd)
    is_a = WORDS.get(found or "", "another object")
    raise TargetError(path, f"a {is_a} is pinned there, no {WORDS[kind]}")


def _pin_error(error: SyscallError, path: str) -> Exception:
    if error.errno == errno.ENOENT:
        return TargetError(
            path, "nothing is pinned there", "`tracebee tree` shows the paths of pinned objects"
        )
    if error.errno == errno.EPERM:
        return PermissionRefused("opening pinned objects", "CAP_BPF", "run as root")
    if error.errno == errno.EACCES:
        if os.path.exists(path) and os.access(path, os.R_OK | os.W_OK):
            return TargetError(path, "no BPF object: it does not lie in a bpf file system")
        return TargetError(path, "not ours to open (EACCES)", "run as root, or as the owner of the file")
    if error.errno in (errno.EINVAL, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return TargetError(path, f"cannot be opened: {error.strerror}")
    return error


def explained(error: SyscallError, kind: str) -> Exception:
    """What a refusal to walk or to open means."""
    if error.errno == errno.EPERM:
        return PermissionRefused(f"looking at {WORDS[kind]}s by id", "CAP_SYS_ADMIN", HINT)
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        since = {"link": "5.8", "btf": "5.4"}.get(kind, "4.13")
        return NotSupportedError(f"this kernel does not number its {WORDS[kind]}s", since)
    return error


def _listing_hint(kind: str) -> str:
    return f"`tracebee {kind} list` shows what there is"


SELECTORS = ("id", "tag", "name", "pinned")


def find(kind: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """The objects that a selector means: id and descriptor of each, which the caller closes.

    `words` are ``id N``, ``tag HEX`` (programs), ``name NAME`` (programs, maps, BTF) or ``pinned PATH``; a
    single word is an id if it is a number, a path if there is a / in it, and else a name.  Names match in the
    form in which the kernel cuts them (15 characters) and in their whole length.

    Raises UsageError for other words, TargetError if nothing is found, PermissionRefused.
    """
    selector, value = parse_selector(kind, words)
    if selector == "id":
        object_id = int(value, 16) if value[:2] in ("0x", "0X") else int(value)
        return [(object_id, open_id(kind, object_id))]
    if selector == "pinned":
        from tracebee.kernel.info import id_of

        fd = open_pin(kind, value)
        return [(id_of(kind, fd), fd)]
    from tracebee.kernel.info import names_of, tag_of

    found: list[tuple[int, int]] = []
    try:
        for object_id, fd in walk(kind):
            is_meant = tag_of(fd) == value if selector == "tag" else value in names_of(kind, fd)
            if is_meant:
                found.append((object_id, os.dup(fd)))
    except BaseException:
        for _, fd in found:
            os.close(fd)
        raise
    if not found:
        raise TargetError("", f"there is no {WORDS[kind]} with {selector} {value}", _listing_hint(kind))
    return found


def find_one(kind: str, words: Sequence[str]) -> tuple[int, int]:
    """As `find` for a selector that has to mean one object.  Raises UsageError as well, if it means several."""
    found = find(kind, words)
    if len(found) == 1:
        return found[0]
    for _, fd in found:
        os.close(fd)
    ids = ", ".join(str(object_id) for object_id, _ in found)
    raise UsageError(
        f"{' '.join(words)} means {len(found)} {WORDS[kind]}s: ids {ids}", "say which one by its id"
    )


def parse_selector(kind: str, words: Sequence[str]) -> tuple[str, str]:
    """The selector and its value; see `find`.  Raises UsageError."""
    allowed = selectors_of(kind)
    usage = f"a {WORDS[kind]} is named by " + ", ".join(f"{word} {_VALUES[word]}" for word in allowed)
    if len(words) == 1:
        word = words[0]
        if _is_number(word):
            return "id", word
        if "/" in word:
            words = ("pinned", word)
        elif word in SELECTORS:
            raise UsageError(f"{word} wants a value behind it", usage)
        else:
            words = ("name", word)
    if len(words) != 2:
        raise UsageError(f"no {WORDS[kind]} is named by {' '.join(words)!r}", usage)
    selector, value = words
    if selector not in allowed:
        if selector in SELECTORS:
            raise UsageError(f"{WORDS[kind]}s have no {'pins' if selector == 'pinned' else selector}", usage)
        raise UsageError(f"no {WORDS[kind]} is named by {' '.join(words)!r}", usage)
    if selector == "id" and not _is_number(value):
        raise UsageError(f"{value!r} is no id", "ids are numbers from 1 to 4294967295")
    if selector == "tag":
        value = value.lower()
        if len(value) != 16 or value.strip("0123456789abcdef"):
            raise UsageError(f"{value!r} is no tag", "tags are 16 hexadecimal digits")
    return selector, value


def selectors_of(kind: str) -> tuple[str, ...]:
    """Which selectors a kind of object has."""
    return {
        "prog": ("id", "tag", "name", "pinned"),
        "map": ("id", "name", "pinned"),
        "link": ("id", "pinned"),
        "btf": ("id", "name"),
    }[kind]


_VALUES = {"id": "ID", "tag": "TAG", "name": "NAME", "pinned": "PATH"}


def _is_number(word: str) -> bool:
    if not word.isascii() or len(word) > 12:
        return False
    if word[:2] in ("0x", "0X"):
        return len(word) > 2 and not word[2:].strip("0123456789abcdefABCDEF")
    return word.isdigit()
