"""The maps of an object before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.spec.objects import MapSpec

UNSIZED = ("RINGBUF", "PERF_EVENT_ARRAY")


class MapDraft:
    """A map that is to be made: some of what its definition says can still be changed.

    `spec` is the definition, as it is now.
    """

    def __init__(self, spec: MapSpec) -> None:
        self.spec = spec

    def __repr__(self) -> str:
        one = self.spec
        return (
            f"<{one.name}: {one.type}, key {one.key_size}, value {one.value_size}, {one.max_entries} entries>"
        )

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def type(self) -> str:
        """The name of enum bpf_map_type without prefix, such as "PERCPU_HASH"."""
        return self.spec.type

    @property
    def max_entries(self) -> int:
        """How many entries there is room for; of a ring buffer how many bytes."""
        return self.spec.max_entries

    @max_entries.setter
    def max_entries(self, count: int) -> None:
        if not 0 < count < 1 << 32:
            raise UsageError(f"map {self.name}: {count} is no number of entries")
        self.spec = self.spec.replaced(max_entries=count)

    @property
    def flags(self) -> int:
        """BPF_F_* of the map."""
        return self.spec.flags

    @flags.setter
    def flags(self, flags: int) -> None:
        self.spec = self.spec.replaced(flags=flags)

    @property
    def pinned(self) -> bool:
        """Whether it is shared under its name in the BPF file system."""
        return self.spec.pinned

    @pinned.setter
    def pinned(self, pinned: bool) -> None:
        self.spec = self.spec.replaced(pinned=pinned)
