"""Unit tests for probes: made-up events for a script or an object, with no kernel and no privilege.

    from tracebee.testing import load_script

    def test_counts_bytes():
        with load_script("tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @[comm] = sum(args.ret); }") as bench:
            bench.world.name = "cat"
            bench.fire("tracepoint:syscalls:sys_exit_read", ret=100)
            bench.fire("tracepoint:syscalls:sys_exit_read", ret=-9)
            assert dict(bench.maps["@"]) == {"cat": 100}

`load_object` does the same with an object that clang has made; `World` is the task that the events happen to.
"""

from __future__ import annotations

from tracebee.session.objects.maps import Map as ObjectMap
from tracebee.session.testing.bench import ScriptBench, load_script
from tracebee.session.testing.objects import ObjectBench, load_object
from tracebee.session.testing.world import World

__all__ = ["ObjectBench", "ObjectMap", "ScriptBench", "World", "load_object", "load_script"]
