"""A refusal with what is known of this machine."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import tracebee.session  # noqa: F401 - gives VerifierError its explanation
from tracebee.errors import VerifierError
from tracebee.explain.explanation import SourceLine
from tracebee.insn.builder import Builder
from tracebee.session.refused import facts_here, source_of
from tracebee.spec.objects import ProgramSpec

if TYPE_CHECKING:
    from pathlib import Path

LOG = "0: (85) call bpf_ktime_get_ns#5\n1: (79) r2 = *(u64 *)(r1 +0)\nR1 !read_ok\nprocessed 2 insns\n"


def spec() -> ProgramSpec:
    builder = Builder()
    builder.mov_imm(0, 0)
    builder.exit()
    return ProgramSpec(
        "f", "TRACING", tuple(builder.finish()), "GPL", "TRACE_FENTRY", "vfs_read", sleepable=True
    )


def test_an_error_explains_itself_once() -> None:
    error = VerifierError("f", errno.EACCES, LOG)
    told = error.explanation
    assert told is not None
    assert told.cause == "reg-uninit"
    assert "bpf_ktime_get_ns" in told.sentence
    assert error.explanation is told


def test_the_facts() -> None:
    error = VerifierError("f", errno.ENOSPC, LOG, quiet_errno=errno.E2BIG, spec=spec())
    facts = facts_here(error)
    assert (facts.errno, facts.quiet_errno) == ("ENOSPC", "E2BIG")
    assert facts.release == os.uname().release
    assert facts.section == "fentry.s/vfs_read"
    assert facts.license == "GPL"
    assert facts.instructions == 2
    assert facts.privileges
    assert facts_here(VerifierError("f", errno.EPERM, "")).section == ""


def test_the_source_file_is_read_if_it_is_still_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.bpf.c"
    file.write_text("int f(void)\n{\n\treturn  1;\n}\n")
    lines = {0: SourceLine(str(file), 3, "return 1;"), 1: SourceLine(str(file), 4, "}")}
    source = source_of(lines)
    assert source is not None
    assert (source.file, source.whole(3)) == ("a.bpf.c", "\treturn  1;")
    assert source_of(lines | {2: SourceLine(str(file), 2, "other")}) is None
    assert source_of({0: SourceLine(str(tmp_path / "gone.c"), 1, "x")}) is None
    assert source_of({}) is None
