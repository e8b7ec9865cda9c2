"""``tracebee tree``: everything that is loaded, from who keeps it alive down to the maps.

Roots are processes, pinned files and control groups; under them come links, the programs that these run, and
the maps that those use.  What hangs on several of them is shown in whole where it comes first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tracebee.cli import facts as say
from tracebee.cli.link.places import place_of
from tracebee.cli.objectviews import note_unseen
from tracebee.cli.selection import no_more, print_json, print_lines, split_options, terminal_width
from tracebee.kernel.inventory import map_of_link, read_inventory
from tracebee.records import Mutable
from tracebee.render.tables import cut, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tracebee.host.holders import Holder
    from tracebee.kernel.inventory import Inventory, PerfAttachment

USAGE = """tracebee tree: everything that is loaded as one tree

USAGE:
    tracebee tree [-j | -p] [-a]

    Processes, pinned files and control groups; under them links, programs and maps, maps of maps with what is in
    them.  (above) marks what has been shown in whole before.

    -j prints JSON, -p prints it over many lines; -a shows also what this process holds itself.
"""

ABOVE = "(above)"


class Node(Mutable):
    """A line of the tree: `label` for people, `record` for JSON; `again` if it was shown in whole before."""

    label: str
    record: dict[str, Any]
    children: list[Node]
    again: bool = False


def run(words: Sequence[str]) -> int:
    """Print the tree.  Raises TracebeeError."""
    if any(word in ("-h", "--help") for word in words):
        print(USAGE, end="")
        return 0
    options = split_options(words, ("all",))
    no_more(options.words)
    inventory = read_inventory()
    roots = Tree(inventory).roots(0 if "all" in options.given else os.getpid())
    if options.wants_json:
        print_json([as_json(root) for root in roots], options)
        return 0
    width = terminal_width()
    lines = [line if width is None else cut(line, width) for root in roots for line in lines_of(root)]
    print_lines(lines or ["nothing is loaded"])
    note_unseen(inventory)
    return 0


class Tree:
    """Makes the nodes, and remembers which objects it has shown."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.shown: set[tuple[str, int]] = set()

    def roots(self, hidden_pid: int = 0) -> list[Node]:
        """Everything, without what the process `hidden_pid` alone holds."""
        inventory = self.inventory
        held: dict[Holder, list[tuple[str, int]]] = {}
        hidden: set[tuple[str, int]] = set()
        for key, holders in inventory.holders.by_object.items():
            for holder in holders:
                if holder.pid == hidden_pid:
                    hidden.add(key)
                else:
                    held.setdefault(holder, []).append(key)
        for event in inventory.perf_attachments:
            held.setdefault(event.holder, [])
        roots = [self._process(holder, held[holder]) for holder in sorted(held)]
        roots += self._pins()
        roots += self._cgroups()
        left = [
            node
            for kind in ("link", "prog", "map", "btf")
            for object_id in self._tops(kind)
            if (kind, object_id) not in self.shown and (kind, object_id) not in hidden
            for node in [self.node(kind, object_id)]
        ]
        if left:
            roots.append(
                Node("held by the kernel, or by processes that are not seen", {"kind": "others"}, left)
            )
        return roots

    def _tops(self, kind: str) -> list[int]:
        """The objects of a kind that may stand at the top, those that are in no other of their kind first."""
        ids = list(self.inventory.objects(kind))
        if kind == "map":
            return sorted(ids, key=lambda map_id: bool(self.inventory.outer_maps_of(map_id)))
        if kind == "btf":
            return [
                btf_id
                for btf_id in ids
                if not self.inventory.btfs[btf_id].kernel_btf and not self._is_btf_used(btf_id)
            ]
        return ids

    def _is_btf_used(self, btf_id: int) -> bool:
        return bool(self.inventory.programs_of_btf(btf_id) or self.inventory.maps_of_btf(btf_id))

    def _process(self, holder: Holder, keys: list[tuple[str, int]]) -> Node:
        record = {"kind": "process", "pid": holder.pid, "comm": holder.comm}
        node = Node(f"{holder.comm}({holder.pid})", record, [])
        before = set(self.shown)
        node.children += [self.node("link", number) for kind, number in sorted(keys) if kind == "link"]
        node.children += [
            self._perf_event(one) for one in self.inventory.perf_attachments if one.holder == holder
        ]
        for kind in ("prog", "map", "btf"):
            wanted = [number for one, number in sorted(keys) if one == kind]
            for number in (number for number in self._tops(kind) if number in wanted):
                # What this process also holds by a link or a program is no news.
                if (kind, number) not in self.shown - before:
                    node.children.append(self.node(kind, number))
        return node

    def _perf_event(self, one: PerfAttachment) -> Node:
        event = one.event
        record = {
            "kind": "perf_event",
            "fd": one.fd,
            "fd_type": say.json_word(event.kind),
            "name": event.name,
        }
        label = f"perf event {say.word(event.kind)} {event.name}, without a link"
        return Node(label, record, [self.node("prog", event.prog_id)])

    def _pins(self) -> list[Node]:
        paths = sorted((path, key) for key, found in self.inventory.pins.items() for path in found)
        return [Node(path, {"kind": "pin", "path": path}, [self.node(*key)]) for path, key in paths]

    def _cgroups(self) -> list[Node]:
        roots = []
        for path in dict.fromkeys(one.path for one in self.inventory.cgroup_attachments):
            node = Node(f"cgroup {path}", {"kind": "cgroup", "path": path}, [])
            for one in self.inventory.cgroup_attachments:
                if one.path == path:
                    program = self.node("prog", one.prog_id)
                    program.label += f", {say.word(one.attach_type).removeprefix('cgroup_')} without a link"
                    program.record["attach_type"] = say.json_word(one.attach_type)
                    node.children.append(program)
            roots.append(node)
        return roots

    # --- objects

    def node(self, kind: str, number: int) -> Node:
        """An object with what it keeps alive."""
        if number not in self.inventory.objects(kind):
            return Node(f"{_WORDS[kind]} {number}, gone meanwhile", {"kind": kind, "id": number}, [])
        again = (kind, number) in self.shown
        self.shown.add((kind, number))
        node = getattr(self, f"_{kind}")(number)
        node.again = again
        if not again:
            node.children = list(self._below(kind, number))
        assert isinstance(node, Node)
        return node

    def _below(self, kind: str, number: int) -> Iterator[Node]:
        inventory = self.inventory
        if kind == "link":
            link = inventory.links[number]
            if link.prog_id:
                yield self.node("prog", link.prog_id)
            if map_of_link(link):
                yield self.node("map", map_of_link(link))
        elif kind == "prog":
            for map_id in inventory.programs[number].map_ids:
                yield self.node("map", map_id)
        elif kind == "map":
            inner = "map" if inventory.inner_maps_of(number) else "prog"
            for key, found in inventory.inside.get(number, ()):
                node = self.node(inner, found)
                node.label = f"[{key_text(key)}] {node.label}"
                node.record = {"key": key_text(key)} | node.record
                yield node

    def _link(self, number: int) -> Node:
        link = self.inventory.links[number]
        place = place_of(link, self.inventory)
        record = {"kind": "link", "id": number, "type": say.json_word(link.type), "place": place}
        return Node(f"link {number} {place}", record, [])

    def _prog(self, number: int) -> Node:
        program = self.inventory.programs[number]
        record = {"kind": "prog", "id": number, "type": say.json_word(program.type), "name": program.name}
        record |= {"tag": program.tag}
        return Node(f"program {say.titled(number, program.name)} ({say.word(program.type)})", record, [])

    def _map(self, number: int) -> Node:
        found = self.inventory.maps[number]
        record: dict[str, Any] = {"kind": "map", "id": number, "type": say.json_word(found.type)}
        record["name"] = found.name
        if found.memlock is not None:
            record["bytes_memlock"] = found.memlock
        about = ", ".join(part for part in (say.word(found.type), say.size(found.memlock)) if part)
        return Node(f"map {say.titled(number, found.name)} ({about})", record, [])

    def _btf(self, number: int) -> Node:
        found = self.inventory.btfs[number]
        record = {"kind": "btf", "id": number, "size": found.size, "name": found.name}
        return Node(f"BTF {say.titled(number, found.name)} ({say.size(found.size)})", record, [])


_WORDS = {"link": "link", "prog": "program", "map": "map", "btf": "BTF"}


def key_text(key: bytes) -> str:
    """A key: a number if it has the size of one, else its bytes in hexadecimal."""
    import sys

    if len(key) in (1, 2, 4, 8):
        return str(int.from_bytes(key, sys.byteorder))
    return key.hex(" ")


def lines_of(root: Node) -> list[str]:
    """The lines of a root and all below it."""
    lines = [_line(root)]
    _draw(root.children, "", lines)
    return lines


def _draw(nodes: Sequence[Node], indent: str, lines: list[str]) -> None:
    for node in nodes:
        is_last = node is nodes[-1]
        lines.append(f"{indent}{'└─ ' if is_last else '├─ '}{_line(node)}")
        _draw(node.children, indent + ("   " if is_last else "│  "), lines)


def _line(node: Node) -> str:
    return printable(node.label) + (f" {ABOVE}" if node.again else "")


def as_json(node: Node) -> dict[str, Any]:
    """A node and all below it; "again" marks what has been shown in whole before."""
    record = dict(node.record)
    if node.again:
        record["again"] = True
    if node.children:
        record["children"] = [as_json(child) for child in node.children]
    return record
