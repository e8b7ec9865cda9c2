"""What a script is being compiled to, apart from code: maps, events, strings, constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.language.tree import Call, MapAccess, walk
from tracebee.records import Mutable
from tracebee.spec.events import Event, Layout
from tracebee.spec.objects import (
    GLOBALS_MAP,
    RING_MAP,
    STACKS_MAP,
    Globals,
    MapInfo,
    MapSpec,
)
from tracebee.spec.types import (
    Aggregation,
    Array,
    Record,
    Stack,
    Struct,
    Tuple,
    Type,
    Void,
    align_up,
)

if TYPE_CHECKING:
    from tracebee.language.passes.infer import Inference, MapState
    from tracebee.language.probes.base import Expansion, Unit
    from tracebee.language.tree import Node
    from tracebee.spec.events import Action

RODATA_MAP = "rodata"
SCRATCH_MAP = "scratch"
LARGEST_PER_CPU_VALUE = 32 * 1024
"""PCPU_MIN_UNIT_SIZE: the kernel's per-CPU allocator gives nothing larger."""

EAGER_BYTES = 32 << 20
"""Hash maps whose elements would take more memory than this are filled on demand, where the kernel can."""

SMALL_KEY = 512
"""MAX_BPF_STACK: what keys of hash maps were limited to up to Linux 5.10 (c6bde958a62b)."""

BPF_F_NO_PREALLOC = 1
BPF_F_RDONLY_PROG = 1 << 7
BPF_F_MMAPABLE = 1 << 10

DECLARED_KINDS = {
    "hash": "HASH",
    "lruhash": "LRU_HASH",
    "percpuhash": "PERCPU_HASH",
    "percpulruhash": "LRU_PERCPU_HASH",
}


class MapPlan(Mutable):
    """A map of the script: its types, and the kernel map that holds it.

    A scalar map that is no aggregation is one array slot: its value, then at `flag_offset` a u64 that is not
    0 once there is a value.  The same word follows the value of per-CPU scalar maps.

    `is_exclusive` says that a program that is at a value of its CPU is the only one there until it ends: the
    values of a CPU are its own, and all probes that mention the map are of exclusive kinds.  `loses_keys`
    says that the script deletes keys, so that a key to be set is often new.
    """

    name: str
    key: Type | None
    value: Type
    spec: MapSpec
    flag_offset: int
    is_exclusive: bool = False
    loses_keys: bool = False

    @property
    def per_cpu(self) -> bool:
        return "PERCPU" in self.spec.type


class Build:
    """Collects, over all probes of a script, what their code refers to."""

    def __init__(self, context: Expansion) -> None:
        self.context = context
        self.maps: dict[str, MapPlan] = {}
        self.events: list[Event] = []
        self.strings: dict[str, int] = {}
        self.probe_names: list[str] = []
        self.function_names: list[str] = []
        self.names_functions = False
        self.rodata = bytearray()
        self.constants: dict[bytes, int] = {}
        self.zero_bytes = 0
        self.scratch_bytes = 0
        self.stack_frames = 0
        self.stack_entries = 0
        self.uses_ring = False
        self.report_failures = False
        self.ends_itself = False
        self.clock_map = ""
        self.inference: Inference

    # --- things that code refers to by number

    def event(self, action: Action, layout: Layout) -> int:
        """The id of a new event."""
        self.uses_ring = True
        number = len(self.events)
        self.events.append(Event(number, action, layout))
        return number

    def string(self, text: str) -> int:
        """The index of a string in `Schema.strings`."""
        return self.strings.setdefault(text, len(self.strings))

    def constant(self, data: bytes, align: int = 8) -> int:
        """The offset in the read-only data at which these bytes lie."""
        offset = self.constants.get(data)
        if offset is None:
            self.rodata.extend(bytes(-len(self.rodata) % align))
            offset = self.constants[data] = len(self.rodata)
            self.rodata += data
        return offset

    # --- maps

    def plan_map(self, state: MapState) -> None:
        """Decide what kernel map holds a map of the script."""
        key = state.key if state.keyed else None
        value = state.value
        if state.keyed and isinstance(state.key, Void):
            return
        per_cpu = isinstance(value, Aggregation) and value.size + 8 <= LARGEST_PER_CPU_VALUE
        limit = self.context.config.number("max_map_keys")
        if key is None:
            kind = "PERCPU_ARRAY" if per_cpu else "ARRAY"
            flag_offset = align_up(value.size, 8)
            spec = MapSpec(state.name, kind, 4, flag_offset + 8, 1)
        else:
            kind = DECLARED_KINDS[state.kind] if state.kind else ("PERCPU_HASH" if per_cpu else "HASH")
            entries = state.max_entries or limit
            flag_offset = 0
            if key.size > SMALL_KEY and not self.context.machine.feature("large_keys"):
                self.context.diagnostics.fail(
                    f"this kernel lacks keys of more than {SMALL_KEY} bytes (since Linux 5.11): "
                    f"one of {state.name} takes {key.size}",
                    state.span,
                    "give strings in it a shorter limit: str(x, 200), or max_strlen in the configuration",
                )
            size = align_up(value.size, 8)
            cpus = self.context.machine.possible_cpus if "PERCPU" in kind else 1
            flags = 0
            lazy = entries * (align_up(key.size, 8) + size * cpus) > EAGER_BYTES
            if lazy and "LRU" not in kind and self.context.machine.feature("hash_on_demand"):
                flags = BPF_F_NO_PREALLOC
            spec = MapSpec(state.name, kind, max(1, key.size), size, entries, flags)
            self._count_stacks(key, entries)
            self._count_stacks(value, entries)
        self.maps[state.name] = MapPlan(state.name, key, value, spec, flag_offset)

    def survey(self, units: list[Unit]) -> None:
        """Note how the script's probes, all of them, use the maps."""
        for plan in self.maps.values():
            plan.is_exclusive = plan.per_cpu
        for unit in units:
            for part in (unit.probe.predicate, unit.probe.body):
                for node in walk(part) if part is not None else ():
                    self._survey(unit, node)

    def _survey(self, unit: Unit, node: Node) -> None:
        if isinstance(node, MapAccess):
            plan = self.maps.get(node.name)
            if plan is not None and not unit.kind.is_exclusive:
                plan.is_exclusive = False
        elif isinstance(node, Call) and node.name == "delete":
            for argument in node.arguments:
                plan = self.maps.get(argument.name) if isinstance(argument, MapAccess) else None
                if plan is not None:
                    plan.loses_keys = True

    def _count_stacks(self, type_: Type, entries: int) -> None:
        """Make room for the stacks that a map can hold."""
        if isinstance(type_, Stack):
            self.stack_entries += entries
        elif isinstance(type_, Tuple | Record):
            for element in type_.elements:
                self._count_stacks(element, entries)

    def zeros(self, size: int) -> None:
        """Have at least so many zero bytes at the start of the read-only data."""
        self.zero_bytes = max(self.zero_bytes, size)

    # --- the result

    def map_specs(self) -> tuple[MapSpec, ...]:
        """All maps that the programs refer to; `globals` always, the others when needed."""
        specs = [MapSpec(GLOBALS_MAP, "ARRAY", 4, Globals.SIZE, 1)]
        if self.uses_ring:
            # The size of a ring buffer is in bytes, and chosen by whoever creates it.
            specs.append(MapSpec(RING_MAP, "RINGBUF", 0, 0, 0))
        if self.rodata or self.zero_bytes:
            contents = bytes(self.rodata)
            specs.append(
                MapSpec(
                    RODATA_MAP,
                    "ARRAY",
                    4,
                    len(contents),
                    1,
                    BPF_F_RDONLY_PROG,
                    contents=contents,
                    frozen=True,
                )
            )
        if self.zero_bytes:
            size = align_up(self.zero_bytes, 8)
            specs.append(
                MapSpec("zeros", "ARRAY", 4, size, 1, BPF_F_RDONLY_PROG, contents=bytes(size), frozen=True)
            )
        if self.scratch_bytes:
            size = self.scratch_bytes * cpu_slots(self.context.machine.possible_cpus)
            # Nobody maps it, but such values start at a page, and moves of aligned bytes are quicker.
            specs.append(MapSpec(SCRATCH_MAP, "ARRAY", 4, size, 1, BPF_F_MMAPABLE))
        if self.stack_frames:
            entries = max(1024, self.stack_entries)
            specs.append(MapSpec(STACKS_MAP, "LRU_HASH", 8, 8 * self.stack_frames, entries))
        specs += [plan.spec for plan in self.maps.values()]
        return tuple(spec for spec in specs if spec.name != RODATA_MAP or spec.value_size)

    def map_infos(self) -> tuple[MapInfo, ...]:
        return tuple(
            MapInfo(plan.name, plan.spec.name, plan.key, plan.value, plan.per_cpu)
            for plan in self.maps.values()
        )


def cpu_slots(cpus: int) -> int:
    """The power of two that holds every CPU number: the verifier sees a mask, not a comparison."""
    return 1 << max(0, (cpus - 1).bit_length())


def has_padding(type_: Type) -> bool:
    """Whether values have bytes that storing them leaves alone: gaps, and what lies behind a string's end."""
    match type_:
        case Tuple() | Record():
            end = 0
            for offset, element in zip(type_.offsets, type_.elements, strict=True):
                if offset != end or has_padding(element):
                    return True
                end = offset + element.size
            return end != type_.size
        case Array(element, _):
            return has_padding(element)
        case Struct():
            return False  # copied whole, padding included
    return False
