#!/usr/bin/env python3
"""Maps of maps: the Python half of map_in_map.bpf.c, and with --rules what such maps are like, without any object."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import tracebee
from tracebee.errors import MapError
from tracebee.host.identity import find_syscall_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OBJECT = Path(__file__).with_name("map_in_map.bpf.o")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Count the system calls of a command, in maps of maps.")
    parser.add_argument("-c", "--command", help="start a command and watch it, until it ends")
    parser.add_argument("-i", "--interval", type=float, default=1.0, help="seconds between two reports")
    parser.add_argument("--rules", action="store_true", help="show the rules of maps of maps instead")
    options = parser.parse_args(words)
    if options.rules:
        show_rules()
    elif options.command:
        watch(options.command, options.interval)
    else:
        parser.error("what is to be watched? -c 'cat /etc/hostname'")
    return 0


# --- with an object


def watch(command: str, interval: float) -> None:
    with tracebee.Object.from_elf(OBJECT) as counter:
        counter.load("kernel", command=command)
        maps = counter.maps
        # A map for this process, made here: the program finds it under the process's id.
        mine = tracebee.Map.create("HASH", key="u32", value="u64", max_entries=512, name="mine")
        maps["watched"][counter.pid] = mine
        counter.attach()
        used, spare = maps["first"], maps["second"]
        finished = False
        while not finished:
            finished = counter.wait(interval)
            # From here on the program counts in the other map, and this one stays as it is.
            maps["current"][0] = spare
            report("since the last report", used)
            used.clear()
            used, spare = spare, used
        report("in all", mine)
        del maps["watched"][counter.pid]


def report(title: str, counts: Mapping[int, int]) -> None:
    print(title)
    for number, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:10]:
        print(f"{count:>8} {find_syscall_name(number) or number}")


# --- without one


def show_rules() -> None:
    template = tracebee.Map.create("HASH", key="u32", value="u64", max_entries=8, name="template")
    outer = tracebee.Map.create("HASH_OF_MAPS", key="char[16]", inner=template, max_entries=2, name="outer")
    array = tracebee.Map.create("ARRAY", value="u64", max_entries=4, name="array")
    rows = tracebee.Map.create("ARRAY_OF_MAPS", inner=array, max_entries=3, name="rows")
    template.close()  # it has only said what inner maps are like

    one = tracebee.Map.create("HASH", key="u32", value="u64", max_entries=1000, name="one")
    print(f"a new one is empty: {len(outer)} maps in it")
    outer["cats"] = one
    one[7] = 1
    outer["cats"][8] = 2
    print(f"what is put in is the map itself: {dict(sorted(outer['cats'].items()))}")
    print(f"what is read is its id: {outer['cats'].id == one.id}")

    other = tracebee.Map.create("ARRAY", value="u64", max_entries=8, name="other")
    wide = tracebee.Map.create("HASH", key="u32", value="u32", max_entries=8, name="wide")
    refused("another kind", lambda: outer.put("dogs", array))
    refused("another size of values", lambda: outer.put("dogs", wide))
    refused("an array of another length", lambda: rows.put(0, other))
    refused("an index beyond the end", lambda: rows.put(3, array))
    refused("another flag than ANY, of an array", lambda: rows.put(0, array, when="noexist"))
    refused("one without a template", lambda: tracebee.Map.create("ARRAY_OF_MAPS", max_entries=1))
    refused("two levels", lambda: tracebee.Map.create("ARRAY_OF_MAPS", inner=outer, max_entries=1))
    one.close()
    refused("a closed map", lambda: outer.put("dogs", one))
    print(f"what is in stays: {outer['cats'][8]}")


def refused(what: str, attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except MapError as error:
        print(f"{what}: {error}")
    else:
        raise SystemExit(f"{what}: the kernel takes it")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except tracebee.TracebeeError as error:
        raise SystemExit(f"{error}\n{error.hint}".rstrip()) from None
