"""What stands behind the verbs about loaded objects: options, and which object is meant; and JSON for all of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAGS = {
    **dict.fromkeys(("-j", "--json"), "json"),
    **dict.fromkeys(("-p", "--pretty"), "pretty"),
    **dict.fromkeys(("-f", "--bpffs"), "bpffs"),
    **dict.fromkeys(("-a", "--all"), "all"),
}


class Options(NamedTuple):
    """The options of a command about objects, and the words that are none.

    `json` is for one line of JSON, `pretty` for JSON over many lines; -f and -a stand in `given` as "bpffs" and
    "all".
    """

    json: bool
    pretty: bool
    given: frozenset[str]
    words: tuple[str, ...]

    @property
    def wants_json(self) -> bool:
        return self.json or self.pretty


def split_options(words: Sequence[str], allowed: Sequence[str] = ()) -> Options:
    """Take the options out of the words of a command; a word ``--`` ends them.

    `allowed` names options beside -j and -p: "bpffs" (-f), "all" (-a).  Raises UsageError for others.
    """
    given: set[str] = set()
    rest: list[str] = []
    words = list(words)
    for index, word in enumerate(words):
        if word == "--":
            rest += words[index + 1 :]
            break
        if not word.startswith("-") or word == "-" or _is_number(word):
            rest.append(word)
            continue
        # -jf is -j -f
        letters = [f"-{letter}" for letter in word[1:]] if word[1] != "-" else [word]
        for option in letters:
            meaning = FLAGS.get(option)
            if meaning is None or (meaning not in ("json", "pretty") and meaning not in allowed):
                known = [
                    "-j",
                    "-p",
                    *(short for short, one in FLAGS.items() if one in allowed and len(short) == 2),
                ]
                raise UsageError(f"unknown option {option}", f"the options here are {', '.join(known)}")
            given.add(meaning)
    return Options("json" in given, "pretty" in given, frozenset(given), tuple(rest))


def _is_number(word: str) -> bool:
    """Whether a word that begins with a minus is a number, such as the value of an element."""
    return word[1:2].isdigit()


def split_selector(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words at the beginning that say which object is meant, and those behind; see `kernel.ids.find`.

    Raises UsageError if there are none.
    """
    from tracebee.kernel.ids import SELECTORS

    if not words:
        raise UsageError("which one?", "by id ID, name NAME, tag TAG or pinned PATH")
    length = 2 if words[0] in SELECTORS and len(words) > 1 else 1
    return list(words[:length]), list(words[length:])


def no_more(words: Sequence[str]) -> None:
    """Raises UsageError if words are left that mean nothing."""
    if words:
        raise UsageError(f"what is {' '.join(words)!r}?", "nothing can stand there")


def print_json(value: Any, options: Options) -> None:
    """Print a value as JSON: in one line, or with `pretty` over many."""
    import json

    if options.pretty:
        print(json.dumps(value, indent=4))
    else:
        print(json.dumps(value, separators=(",", ":")))


def print_lines(lines: Sequence[str]) -> None:
    """Print text; what is no valid UTF-8 goes out as it came in."""
    import sys

    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def terminal_width() -> int | None:
    """The columns of the terminal that standard output leads to, or None if it leads elsewhere."""
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None
