"""Verifier logs as values: formats of kernels, loaders and people."""

from __future__ import annotations

import io

from tracebee.explain.log import KEEP_INSNS, TAIL, read_stream, read_text

OLD = """\
func#0 @0
arg#0 type is not a struct
Unrecognized arg#0 type PTR
; u64 *v = bpf_map_lookup_elem(&m, &k);
3: (85) call bpf_map_lookup_elem#1
; if (!v)
4: (15) if r0 == 0x0 goto pc+2
 R0=map_value(id=0,off=0,ks=4,vs=8,imm=0) R10=fp0 fp-8=mmmm????
last_idx 4 first_idx 0
regs=40 stack=0 before 3: (85) call bpf_map_lookup_elem#1
; return v[9];
5: (79) r0 = *(u64 *)(r0 +72)
invalid access to map value, value_size=8 off=72 size=8
R0 min value is outside of the allowed memory range
processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
"""

NEW = """\
0: R1=ctx() R10=fp0
; int f(void *c) @ prog.bpf.c:5
0: (b7) r2 = 0                        ; R2_w=0
;  @ prog.bpf.c:0
1: (bf) r3 = r2                       ; R2_w=0 R3_w=0
; return c[3]; @ prog.bpf.c:9
2: (79) r0 = *(u64 *)(r3 +24)
R3 invalid mem access 'scalar'

Verification failed: Register Type Safety: Invalid dereference

Reason:
  R3 is a scalar here,
  so it is no pointer.

At:
  f @ prog.bpf.c:9:5
  Instruction context:
      1 | (bf) r3 = r2
  >>> 2 | (79) r0 = *(u64 *)(r3 +24)

Causal path:
  f @ prog.bpf.c:5:1

Suggestion:
  Use a pointer.

trailing words of the kernel
processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_an_old_log() -> None:
    log = read_text(OLD)
    assert [insn.index for insn in log.insns] == [3, 4, 5]
    assert log.errors == (
        "invalid access to map value, value_size=8 off=72 size=8",
        "R0 min value is outside of the allowed memory range",
    )
    assert log.notes == ("arg#0 type is not a struct", "Unrecognized arg#0 type PTR")
    assert log.processed == 6
    assert log.insns[1].after().registers[0].number("vs") == 8
    last = log.last()
    assert last is not None
    assert last.source is not None
    assert last.source.text == "return v[9];"
    assert log.calls == {3: "bpf_map_lookup_elem#1"}


def test_a_new_log_with_the_kernels_own_reason() -> None:
    log = read_text(NEW)
    assert [insn.index for insn in log.insns] == [0, 1, 2]
    assert log.errors == ("R3 invalid mem access 'scalar'", "trailing words of the kernel")
    assert log.reason is not None
    assert log.reason.category == "Register Type Safety"
    assert log.reason.problem == "Invalid dereference"
    assert log.reason.reason == "R3 is a scalar here, so it is no pointer."
    assert log.reason.suggestion == "Use a pointer."
    places = [insn.source.line if insn.source else None for insn in log.insns]
    assert places == [5, 5, 9]
    assert log.insns[0].before().registers[1].kind == "ctx"


def test_errors_that_run_into_the_statistics() -> None:
    log = read_text(
        "3: (85) call bpf_tail_call#12\nexpected prog array map for tail callprocessed 3 insns (limit 9)\n"
    )
    assert log.errors == ("expected prog array map for tail call",)
    assert log.processed == 3


def test_frames_of_loaders() -> None:
    text = (
        "libbpf: prog 'f': BPF program load failed: Permission denied\n"
        "libbpf: prog 'f': -- BEGIN PROG LOAD LOG --\n" + OLD + "-- END PROG LOAD LOG --\n"
        "libbpf: prog 'f': failed to load: -13\n"
    )
    log = read_text(text)
    assert log.errors == read_text(OLD).errors
    assert log.loader[-1] == "libbpf: prog 'f': failed to load: -13"


def test_indents_prefixes_and_colours_are_taken_off() -> None:
    plain = read_text(OLD)
    tabs = "".join(f"\t{line}\n" for line in OLD.splitlines())
    dmesg = "".join(f"[  12.345678] {line}\n" for line in OLD.splitlines())
    red = "".join(f"\x1b[31m{line}\x1b[0m\n" for line in OLD.splitlines())
    crlf = OLD.replace("\n", "\r\n")
    for text in (tabs, dmesg, red, crlf):
        log = read_text(text)
        assert log.errors == plain.errors
        assert [insn.index for insn in log.insns] == [3, 4, 5]


def test_a_log_on_one_line_with_escapes() -> None:
    log = read_text("load failed: Verifier output: " + OLD.replace("\n", "\\n"))
    assert [insn.index for insn in log.insns] == [3, 4, 5]


def test_a_log_that_is_there_twice() -> None:
    text = NEW.partition("\nVerification")[0] + "\nprocessed 3 insns (limit 9)\n"
    assert len(read_text(text + text).insns) == 3


def test_of_two_programs_the_one_with_an_error_is_taken() -> None:
    good = "-- BEGIN PROG LOAD LOG --\n-- END PROG LOAD LOG --\n"
    bad = "-- BEGIN PROG LOAD LOG --\n" + OLD + "-- END PROG LOAD LOG --\n"
    assert read_text(bad + good).errors == read_text(OLD).errors


def test_missing_ends() -> None:
    cut = read_text(OLD[: OLD.index("invalid access")])
    assert cut.tail_cut
    assert not cut.errors
    assert not read_text(OLD).tail_cut
    assert read_text(OLD).head_cut
    assert not read_text(NEW).head_cut
    gap = read_text("3: (bf) r1 = r2\n[...]\nR1 invalid mem access 'inv'\n")
    assert gap.gap
    assert gap.gap_at_end


def test_paths_that_branch_off() -> None:
    log = read_text(
        "0: (bf) r6 = r1\n1: (15) if r6 == 0x0 goto pc+2\n2: (b7) r0 = 1\n3: (95) exit\n"
        "\nfrom 1 to 4: R6=ctx(id=0,off=0,imm=0) R10=fp0\n4: (bf) r0 = r6\n5: (95) exit\n"
        "R0 leaks addr as return value\n"
    )
    branch = log.insns[4]
    assert branch.index == 4
    assert log.insns[branch.origin].index == 1
    assert branch.before().registers[6].kind == "ctx"


def test_a_callback_on_the_line_of_its_call() -> None:
    log = read_text(
        "5: (85) call bpf_loop#181 8: frame1: R1=scalar() R2=0 R10=fp0 cb\n8: (bf) r0 = r1\n9: (95) exit\nx\n"
    )
    assert log.insns[0].text == "call bpf_loop#181"
    assert [insn.frame for insn in log.insns] == [0, 1, 1]


def test_a_long_log_keeps_its_head_its_end_and_the_calls_between() -> None:
    round_ = "; v = bpf_ringbuf_reserve(&rb, 8, 0); @ p.c:7\n7: (85) call bpf_ringbuf_reserve#131 ; R0=1\n"
    filler = "; x++; @ p.c:9\n9: (07) r1 += 1 ; R1=scalar()\n" * 2000
    head = "0: R1=ctx() R10=fp0\n0: (bf) r6 = r1\n"
    end = "; return 0; @ p.c:12\n20: (95) exit\nUnreleased reference id=2 alloc_insn=7\nprocessed 99 insns\n"
    count = TAIL * 2 // len(filler) + 40
    text = head + filler * 20 + round_ + filler * count + end
    for log in (read_text(text), read_stream(io.StringIO(text))):
        assert len(log.insns) == KEEP_INSNS
        assert log.errors == ("Unreleased reference id=2 alloc_insn=7",)
        assert log.calls[7] == "bpf_ringbuf_reserve#131"
        place = log.place(7)
        assert place is not None
        assert place.line == 7
        assert log.head_cut
        assert log.lines == text.count("\n")


def test_an_endless_line_is_cut() -> None:
    log = read_text("R1 invalid mem access 'inv' " + "x" * 3_000_000)
    assert len(log.errors) == 1
    assert len(log.errors[0]) < 20_000
