"""A refusal with what is known of this machine."""

from __future__ import annotations

import errno
import os

import tracebee.session  # noqa: F401 - gives VerifierError its explanation
from tracebee.errors import VerifierError
from tracebee.insn.builder import Builder
from tracebee.session.refused import facts_here
from tracebee.spec.objects import ProgramSpec

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
