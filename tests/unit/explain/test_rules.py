"""What messages mean, in the words of kernels 4.15 to 7.3, and what else decides."""

from __future__ import annotations

import pytest

from tracebee.explain.chooser import explain_text
from tracebee.explain.facts import Facts

CALL = "0: (bf) r6 = r1\n1: (85) call bpf_map_update_elem#2\n"
LOAD = "0: (79) r6 = *(u64 *)(r1 +112)\n1: (61) r2 = *(u32 *)(r6 +8)\n"
SUM = "0: (85) call bpf_get_prandom_u32#7\n1: (0f) r7 += r0\n"
EXIT = "0: (b7) r0 = 7\n1: (95) exit\n"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (LOAD + "R6 invalid mem access 'inv'", "direct-deref"),
        (LOAD + "R6 invalid mem access 'scalar'", "direct-deref"),
        (LOAD + "R6 invalid mem access 'imm'", "direct-deref"),
        (CALL + "R3 type=inv expected=fp, pkt, pkt_meta, map_value", "helper-arg-type"),
        (CALL + "R2 type=map_value_or_null expected=fp", "null-check-missing"),
        (CALL + "R2 unbounded memory access, use 'var &= const' or 'if (var < const)'", "helper-mem-size"),
        (CALL + "R2 min value is negative, either use unsigned or 'var &= const'", "helper-mem-size"),
        (CALL + "R2 unbounded size, use 'var &= const' or 'if (var < const)'", "helper-arg-type"),
        (CALL + "R2 is not a known constant'", "helper-arg-type"),
        (CALL + "invalid stack type R2 off=-520 access_size=8", "stack-out-of-bounds"),
        (CALL + "invalid indirect read from stack off -92+0 size 80", "stack-uninit"),
        (CALL + "invalid indirect read from stack R2 off -16+1 size 16", "stack-uninit"),
        (CALL + "invalid read from stack R2 off -16+1 size 16", "stack-uninit"),
        (LOAD + "invalid read from stack R10 off=-16 size=8", "stack-uninit"),
        (LOAD + "invalid read from stack R6 off=16 size=8", "stack-out-of-bounds"),
        (LOAD + "invalid stack off=-600 size=8", "stack-out-of-bounds"),
        (LOAD + "R6 max value is outside of the array range", "index-unbounded"),
        (LOAD + "R6 max value is outside of the allowed memory range", "index-unbounded"),
        (
            LOAD + "R6 unbounded memory access, make sure to bounds check any array access into a map",
            "index-unbounded",
        ),
        (
            LOAD + "R6 min value is negative, either use unsigned index or do a if (index >=0) check.",
            "index-unbounded",
        ),
        (
            SUM + "math between map_value pointer and register with unbounded min value is not allowed",
            "index-unbounded",
        ),
        (
            LOAD
            + "invalid access to packet, off=14 size=1, R6(id=0,off=14,r=14)\nR6 offset is outside of the packet",
            "packet-bounds",
        ),
        (
            LOAD + "invalid access to packet, off=14 size=1, R6(id=0,off=14,r=14)\n"
            "R6 min value is outside of the allowed memory range",
            "packet-bounds",
        ),
        (
            LOAD
            + "invalid access to map value, value_size=8 off=8 size=8\nR6 min value is outside of the array range",
            "map-value-oob",
        ),
        (
            LOAD + "dereference of modified ctx ptr R6 off=4+4, ctx+const is allowed, ctx+const+const is not",
            "modified-ctx",
        ),
        (LOAD + "variable ctx access var_off=(0x0; 0xc) disallowed", "modified-ctx"),
        (LOAD + "same insn cannot be used with different pointers", "modified-ctx"),
        (LOAD + "invalid bpf_context access off=176 size=8", "ctx-access"),
        (LOAD + "misaligned packet access off 0+(0x0; 0x0)+15+0 size 4", "misaligned"),
        (
            EXIT + "At program exit the register R0 has value (0x7; 0x0) should have been in (0x0; 0x1)",
            "return-range",
        ),
        (
            EXIT + "At program exit the register R0 has smin=7 smax=7 should have been in [0, 1]",
            "return-range",
        ),
        (EXIT + "R0 !read_ok", "reg-uninit"),
        (EXIT + "R0 leaks addr as return value", "unprivileged-leak"),
        (EXIT + "bpf_spin_unlock is missing", "spin-lock"),
        (
            EXIT + "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region",
            "spin-lock",
        ),
        (EXIT + "bpf_rcu_read_unlock is missing", "rcu-preempt-context"),
        (EXIT + "1 bpf_preempt_enable is missing", "rcu-preempt-context"),
        (
            EXIT + "BPF_EXIT instruction in main prog cannot be used inside bpf_local_irq_save-ed region",
            "rcu-preempt-context",
        ),
        (
            "0: (85) call bpf_iter_task_new#5\n1: (95) exit\nUnreleased reference id=1 alloc_insn=0",
            "iterator",
        ),
        (
            "0: (85) call bpf_ringbuf_reserve_dynptr#198\n1: (95) exit\nUnreleased reference id=1 alloc_insn=0",
            "dynptr",
        ),
        (
            "0: (85) call bpf_cgroup_from_id#5\n1: (95) exit\nUnreleased reference id=1 alloc_insn=0",
            "reference-leak",
        ),
        (
            "0: (85) call bpf_sk_lookup_udp#85\n1: (85) call bpf_tail_call#12\ntail_call would lead to "
            "reference leak",
            "tail-call",
        ),
        (CALL + "cannot call GPL only function from proprietary program", "gpl-only"),
        (CALL + "cannot call GPL-restricted function from non-GPL compatible program", "gpl-only"),
        (CALL + "helper call might sleep in a non-sleepable prog", "sleepable"),
        (CALL + "sleepable helper bpf_copy_from_user#148 in rcu_read_lock region", "rcu-preempt-context"),
        (CALL + "cannot pass map_type 1 into func bpf_perf_event_output#25", "map-helper-mismatch"),
        (CALL + "calling kernel function bpf_task_release is not allowed", "kfunc"),
        ("1: (85) call unknown#195896080\ninvalid func unknown#195896080", "core-relocation"),
        (
            "1: <invalid CO-RE relocation>\nfailed to resolve CO-RE relocation <type_size> [7] struct a "
            "(0 @ offset 0)",
            "core-relocation",
        ),
        ("1: (85) call unknown#2002000003\ninvalid func unknown#2002000003", "kfunc"),
        ("BPF program is too large. Proccessed 131073 insn", "too-complex"),
        ("The sequence of 1025 jumps is too complex.", "too-complex"),
        ("the call stack of 9 frames is too deep", "subprog-depth"),
        ("recursive call from f() to f()", "subprog-depth"),
        ("combined stack size of 3 calls is 640. Too large", "stack-limit"),
        ("unreachable insn 4", "unreachable"),
        ("jump out of range from insn 3 to 70", "unreachable"),
        ("last insn is not an exit or jmp", "no-exit"),
        ("attach_btf_id 7 is not a function", "attach-target"),
        ("JIT doesn't support bpf-to-bpf calls", "jit"),
        ("function calls to other bpf functions are allowed for root only", "no-capability"),
        ("[3] PTR (anon) type_id=9 Invalid type_id", "btf-invalid"),
    ],
)
def test_messages(log: str, cause: str) -> None:
    told = explain_text(log + "\nprocessed 2 insns (limit 1000000)\n")
    assert told.cause == cause
    assert told.kernel_says


@pytest.mark.parametrize(
    ("line", "facts", "cause", "sure"),
    [
        ("back-edge from insn 9 to 2", Facts(release="4.19.0"), "back-edge", True),
        ("back-edge from insn 9 to 2", Facts(release="5.10.0", privileges="none"), "back-edge", True),
        ("back-edge from insn 9 to 2", Facts(release="5.10.0", privileges="root"), "subprog-depth", True),
        ("unknown func bpf_probe_write_user#36", Facts(), "helper-not-allowed", False),
        (
            "unknown func bpf_probe_write_user#36",
            Facts(files={"/x/lockdown": "none [integrity] confidentiality"}),
            "lockdown",
            True,
        ),
        (
            "unknown func bpf_probe_read#4",
            Facts(files={"/x/lockdown": "none [integrity] confidentiality"}, section="tc", privileges="root"),
            "helper-not-allowed",
            True,
        ),
        (
            "unknown func bpf_probe_read#4",
            Facts(files={"/x/lockdown": "none integrity [confidentiality]"}),
            "lockdown",
            True,
        ),
        (
            "unknown func bpf_trace_printk#6",
            Facts(privileges="none", section="socket"),
            "unprivileged-leak",
            True,
        ),
        ("invalid func unknown#182", Facts(release="5.10.0"), "helper-too-new", True),
        ("invalid func unknown#182", Facts(release="6.1.0"), "helper-too-new", False),
        ("BPF_LDX uses reserved fields", Facts(release="5.15.0", cpu="v4"), "instruction-too-new", True),
        ("BPF_LDX uses reserved fields", Facts(release="6.12.0"), "bad-instruction", False),
        ("BPF_STX uses reserved fields", Facts(release="5.10.0"), "instruction-too-new", True),
        (
            "number of funcs in func_info doesn't match number of subprogs",
            Facts(release="5.10.0"),
            "helper-too-new",
            False,
        ),
        (
            "number of funcs in func_info doesn't match number of subprogs",
            Facts(release="6.1.0"),
            "btf-invalid",
            True,
        ),
    ],
)
def test_facts_decide(line: str, facts: Facts, cause: str, sure: bool) -> None:
    told = explain_text(f"0: (b7) r0 = 0\n{line}\nprocessed 1 insns\n", facts)
    assert (told.cause, told.sure) == (cause, sure)


@pytest.mark.parametrize(
    ("facts", "cause", "sure"),
    [
        (Facts(errno="EPERM", privileges="CAP_BPF only", section="kprobe/x"), "no-capability", True),
        (Facts(errno="EPERM"), "no-capability", False),
        (
            Facts(
                errno="EPERM", privileges="root", files={"/x/lockdown": "none integrity [confidentiality]"}
            ),
            "lockdown",
            False,
        ),
        (Facts(errno="ENOSPC"), "log-truncated", True),
        (Facts(errno="ENOSPC", quiet_errno="E2BIG"), "too-complex", True),
        (Facts(errno="E2BIG", instructions=5000, privileges="none"), "too-complex", True),
        (Facts(errno="EINVAL", release="5.4.0", section="lsm/file_open"), "helper-too-new", False),
        (
            Facts(
                errno="EINVAL",
                section="fentry/vfs_reed",
                loader="libbpf: prog 'f': failed to find kernel BTF type ID of 'vfs_reed': -3",
            ),
            "attach-target",
            True,
        ),
        (
            Facts(
                errno="EINVAL",
                loader="libbpf: prog 'f': missing BPF prog type, check ELF section name 'kprob/x'",
            ),
            "bad-sec-name",
            True,
        ),
        (
            Facts(loader="load program: permission denied: R1 !read_ok (9 line(s) omitted)"),
            "reg-uninit",
            True,
        ),
        (Facts(), "", False),
    ],
)
def test_an_empty_log(facts: Facts, cause: str, sure: bool) -> None:
    told = explain_text("", facts)
    assert (told.cause, told.sure) == (cause, sure)


def test_notes_alone_prove_nothing() -> None:
    assert not explain_text("arg#0 type is not a struct\nUnrecognized arg#0 type PTR\n").sure
    told = explain_text("arg#0 type is not a struct\n" + EXIT + "R0 !read_ok\nprocessed 2 insns\n")
    assert told.cause == "reg-uninit"
    assert told.kernel_says == ("R0 !read_ok",)


def test_an_unknown_message_is_shown_with_the_kernels_own_reason() -> None:
    told = explain_text(
        EXIT
        + "words to come\n\nVerification failed: New: Thing\n\nReason:\n  It is new.\n\nSuggestion:\n  Wait.\n\n"
        "processed 2 insns\n"
    )
    assert told.cause == ""
    assert not told.sure
    assert told.sentence == "The kernel says: It is new."
    assert told.advice == "Wait."
    assert told.kernel_says == ("words to come",)


def test_the_index_of_a_u64_array_is_bounded_by_elements() -> None:
    log = (
        "0: (85) call bpf_map_lookup_elem#1 ; R0_w=map_value(off=0,ks=4,vs=256,imm=0)\n"
        "1: (bf) r7 = r0\n2: (85) call bpf_get_prandom_u32#7 ; R0=scalar()\n3: (67) r0 <<= 3\n"
        "; v->slot[i]++;\n4: (0f) r7 += r0\n"
        "math between map_value pointer and register with unbounded min value is not allowed\nprocessed 5 insns\n"
    )
    told = explain_text(log)
    assert "i >= 32" in told.advice
    assert "bpf_get_prandom_u32" in told.sentence


def test_the_kernels_own_reason_stands_in_for_a_message_that_is_cut_off() -> None:
    told = explain_text(
        "Verification failed: Resource Lifetime Safety: Unreleased resource\n\nReason:\n  Owned resource (id=2) was "
        "acquired at instruction 5\n  and still needs to be released before this exit "
        "path.\n\nSuggestion:\n  Release it."
        "\n\nprocessed 19 insns (limit 1000000)\n"
    )
    assert told.cause == "reference-leak"
    assert not told.sure
    assert told.sentence.startswith("Owned resource (id=2) was acquired at instruction 5 and still needs")
    assert told.advice == "Release it."
