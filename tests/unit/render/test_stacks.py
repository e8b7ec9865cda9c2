"""Call stacks in each mode."""

from __future__ import annotations

from tracebee.render.stacks import stack_text
from tracebee.spec.values import Frame, StackTrace

FRAMES = (
    Frame(0xFF10, "inner", 5, "/bin/x", "a.c:3", inlined=True),
    Frame(0xFF10, "outer", 16, "/bin/x", "a.c:9"),
    Frame(0xFF80, "plain", 0, "/bin/x"),
    Frame(0xFFF0),
)


def stack(mode: str, user: bool = True) -> StackTrace:
    return StackTrace(FRAMES, mode, user)


def test_bpftrace_mode() -> None:
    assert stack_text(stack("bpftrace")) == (
        "\n        [inlined] inner@a.c:3\n        outer+16@a.c:9\n        plain+0\n        0xfff0\n"
    )


def test_inlined_frame_without_source() -> None:
    trace = StackTrace((Frame(1, "f", 0, inlined=True),), "bpftrace", True)
    assert stack_text(trace) == "\n        [inlined] f\n"


def test_perf_mode_of_user_stacks_names_the_file() -> None:
    assert stack_text(stack("perf")) == (
        "\n"
        "\tff10 inner (inlined)\n"
        "\tff10 outer+16 (/bin/x)\n"
        "\tff80 plain+0 (/bin/x)\n"
        "\tfff0 0xfff0 ([unknown])\n"
    )


def test_perf_mode_of_kernel_stacks() -> None:
    frames = (Frame(0xFFFFFFFF81F081AA, "test_run", 106), Frame(0xFFFFFFFF81F081AB))
    assert stack_text(StackTrace(frames, "perf", False)) == (
        "\n\tffffffff81f081aa test_run+106\n\tffffffff81f081ab 0xffffffff81f081ab\n"
    )


def test_raw_mode() -> None:
    assert stack_text(stack("raw")) == "\nff10\nff10\nff80\nfff0\n"


def test_build_id_mode() -> None:
    frames = (Frame(0x1000, "", 0x110E89, "a226e0f1"), Frame(0x2000))
    assert stack_text(StackTrace(frames, "build_id", True)) == "\na226e0f1 0x110e89\n2000\n"


def test_empty_stack_is_a_newline() -> None:
    assert stack_text(StackTrace((), "bpftrace", True)) == "\n"


def test_text_is_kept_on_the_stack() -> None:
    trace = stack("raw")
    assert stack_text(trace) is stack_text(trace)
    trace.text = "kept"
    assert stack_text(trace) == "kept"
