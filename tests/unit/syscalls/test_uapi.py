"""Constants and layouts of the kernel's interface, against the uapi header where one is installed."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tracebee.syscalls import _uapi as uapi

HEADER = Path("/usr/include/linux/bpf.h")
ENUMS = {
    "bpf_cmd": (uapi.BPF_CMD, "BPF_"),
    "bpf_map_type": (uapi.BPF_MAP_TYPE, "BPF_MAP_TYPE_"),
    "bpf_prog_type": (uapi.BPF_PROG_TYPE, "BPF_PROG_TYPE_"),
    "bpf_attach_type": (uapi.BPF_ATTACH_TYPE, "BPF_"),
}
LAYOUTS = {
    name: getattr(uapi, name)
    for name in dir(uapi)
    if name.startswith("ATTR_") or name in ("BPF_PROG_INFO", "BPF_MAP_INFO", "PERF_EVENT_ATTR")
}

# From include/uapi/linux/bpf.h and perf_event.h; the kernel never moves a member.
FACTS = [
    ("ATTR_MAP_CREATE", "map_type", (0, 4)),
    ("ATTR_MAP_CREATE", "key_size", (4, 4)),
    ("ATTR_MAP_CREATE", "value_size", (8, 4)),
    ("ATTR_MAP_CREATE", "max_entries", (12, 4)),
    ("ATTR_MAP_CREATE", "map_flags", (16, 4)),
    ("ATTR_MAP_CREATE", "inner_map_fd", (20, 4)),
    ("ATTR_MAP_CREATE", "map_name", (28, 16)),
    ("ATTR_MAP_CREATE", "btf_fd", (48, 4)),
    ("ATTR_MAP_CREATE", "btf_key_type_id", (52, 4)),
    ("ATTR_MAP_CREATE", "btf_value_type_id", (56, 4)),
    ("ATTR_MAP_ELEM", "map_fd", (0, 4)),
    ("ATTR_MAP_ELEM", "key", (8, 8)),
    ("ATTR_MAP_ELEM", "value", (16, 8)),
    ("ATTR_MAP_ELEM", "flags", (24, 8)),
    ("ATTR_MAP_BATCH", "in_batch", (0, 8)),
    ("ATTR_MAP_BATCH", "out_batch", (8, 8)),
    ("ATTR_MAP_BATCH", "keys", (16, 8)),
    ("ATTR_MAP_BATCH", "values", (24, 8)),
    ("ATTR_MAP_BATCH", "count", (32, 4)),
    ("ATTR_MAP_BATCH", "map_fd", (36, 4)),
    ("ATTR_PROG_LOAD", "prog_type", (0, 4)),
    ("ATTR_PROG_LOAD", "insn_cnt", (4, 4)),
    ("ATTR_PROG_LOAD", "insns", (8, 8)),
    ("ATTR_PROG_LOAD", "license", (16, 8)),
    ("ATTR_PROG_LOAD", "log_level", (24, 4)),
    ("ATTR_PROG_LOAD", "log_size", (28, 4)),
    ("ATTR_PROG_LOAD", "log_buf", (32, 8)),
    ("ATTR_PROG_LOAD", "prog_flags", (44, 4)),
    ("ATTR_PROG_LOAD", "prog_name", (48, 16)),
    ("ATTR_PROG_LOAD", "expected_attach_type", (68, 4)),
    ("ATTR_PROG_LOAD", "prog_btf_fd", (72, 4)),
    ("ATTR_PROG_LOAD", "func_info", (80, 8)),
    ("ATTR_PROG_LOAD", "line_info", (96, 8)),
    ("ATTR_PROG_LOAD", "attach_btf_id", (108, 4)),
    ("ATTR_LINK_CREATE", "prog_fd", (0, 4)),
    ("ATTR_LINK_CREATE", "target_fd", (4, 4)),
    ("ATTR_LINK_CREATE", "attach_type", (8, 4)),
    ("ATTR_LINK_CREATE", "perf_event_bpf_cookie", (16, 8)),
    ("PERF_EVENT_ATTR", "type", (0, 4)),
    ("PERF_EVENT_ATTR", "size", (4, 4)),
    ("PERF_EVENT_ATTR", "config", (8, 8)),
    ("PERF_EVENT_ATTR", "sample_period", (16, 8)),
    ("PERF_EVENT_ATTR", "sample_type", (24, 8)),
    ("PERF_EVENT_ATTR", "bp_type", (52, 4)),
    ("PERF_EVENT_ATTR", "config1", (56, 8)),
    ("PERF_EVENT_ATTR", "config2", (64, 8)),
    ("BPF_PROG_INFO", "id", (4, 4)),
    ("BPF_MAP_INFO", "id", (4, 4)),
]


@pytest.mark.parametrize(("layout", "field", "place"), FACTS, ids=str)
def test_places(layout: str, field: str, place: tuple[int, int]) -> None:
    assert LAYOUTS[layout][field] == place


@pytest.mark.parametrize(
    ("table", "name", "number"),
    [
        ("bpf_cmd", "MAP_CREATE", 0),
        ("bpf_cmd", "PROG_LOAD", 5),
        ("bpf_cmd", "PROG_TEST_RUN", 10),
        ("bpf_cmd", "RAW_TRACEPOINT_OPEN", 17),
        ("bpf_cmd", "MAP_LOOKUP_BATCH", 24),
        ("bpf_cmd", "LINK_CREATE", 28),
        ("bpf_map_type", "HASH", 1),
        ("bpf_map_type", "PERCPU_HASH", 5),
        ("bpf_map_type", "LRU_HASH", 9),
        ("bpf_map_type", "RINGBUF", 27),
        ("bpf_prog_type", "KPROBE", 2),
        ("bpf_prog_type", "TRACEPOINT", 5),
        ("bpf_prog_type", "PERF_EVENT", 7),
        ("bpf_prog_type", "RAW_TRACEPOINT", 17),
        ("bpf_prog_type", "TRACING", 26),
        ("bpf_attach_type", "TRACE_RAW_TP", 23),
        ("bpf_attach_type", "TRACE_FENTRY", 24),
        ("bpf_attach_type", "TRACE_ITER", 28),
        ("bpf_attach_type", "PERF_EVENT", 41),
        ("bpf_attach_type", "TRACE_UPROBE_MULTI", 48),
    ],
)
def test_numbers(table: str, name: str, number: int) -> None:
    assert ENUMS[table][0][name] == number


@pytest.mark.parametrize("name", LAYOUTS)
def test_members_are_plain_numbers_or_names(name: str) -> None:
    """Each lies at a multiple of its size, as all members of the uapi do, but for arrays of bytes."""
    assert LAYOUTS[name]
    for field, (offset, size) in LAYOUTS[name].items():
        if size in (1, 2, 4, 8):
            assert offset % size == 0, field
        else:
            # Names, tags, build ids, and arrays of ids.
            assert size % 4 == 0, field


def test_what_is_left_out() -> None:
    """Ends of lists are no commands."""
    for table, _ in ENUMS.values():
        assert not [name for name in table if "MAX_" in name]
        assert all(name and not name.startswith("BPF_") for name in table)


# ---------------------------------------------------------------------- against the header


def test_enumerations_of_the_header() -> None:
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}")
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name, (table, prefix) in ENUMS.items():
        body = re.search(rf"enum {name} \{{(.*?)\}}", text, re.DOTALL)
        assert body is not None
        number = -1
        seen = 0
        values: dict[str, int] = {}
        for item in body[1].split(","):
            word, _, given = (part.strip() for part in item.partition("="))
            if not word:
                continue
            number = values.get(given, -1) if given in values else int(given, 0) if given else number + 1
            values[word] = number
            short = word.removeprefix(prefix)
            if "MAX_" in word:
                continue
            # The header may be older or newer than the kernel whose BTF the table is from.
            if short in table:
                assert table[short] == number, word
                seen += 1
        assert seen > 20


def test_layouts_of_the_header(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not HEADER.exists():
        pytest.skip("no C compiler, or no kernel headers")
    offsets = {
        "MAP_CREATE": ("map_type", "map_name", "btf_value_type_id"),
        "MAP_ELEM": ("map_fd", "key", "value", "flags"),
        "PROG_LOAD": ("prog_type", "insns", "log_buf", "prog_name", "line_info_cnt", "attach_btf_id"),
    }
    places = [(part, field) for part, fields in offsets.items() for field in fields]
    lines = [
        f'printf("%zu %zu\\n", offsetof(union bpf_attr, {f}), sizeof(((union bpf_attr *)0)->{f}));'
        for _, f in places
    ]
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/bpf.h>\n"
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"
    )
    built = subprocess.run([compiler, str(source), "-o", str(tmp_path / "layout")], check=False)
    if built.returncode:
        pytest.skip("the header is too old for the members asked for")
    done = subprocess.run([str(tmp_path / "layout")], capture_output=True, text=True, check=True)
    for (part, field), line in zip(places, done.stdout.splitlines(), strict=True):
        assert LAYOUTS[f"ATTR_{part}"][field] == tuple(map(int, line.split())), field


def test_sizes() -> None:
    assert uapi.PERF_EVENT_ATTR_SIZE >= 112
    assert max(offset + size for offset, size in uapi.BPF_PROG_INFO.values()) <= uapi.BPF_PROG_INFO_SIZE
    assert ctypes.sizeof(ctypes.c_void_p) == uapi.ATTR_MAP_ELEM["key"][1]
