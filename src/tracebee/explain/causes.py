"""The causes of refusals by the verifier: stable ids, what they mean, and where to read on."""

from __future__ import annotations

from tracebee.records import Frozen

VERIFIER_DOC = "https://docs.kernel.org/bpf/verifier.html"
HELPERS_DOC = "bpf-helpers(7)"
KFUNCS_DOC = "https://docs.kernel.org/bpf/kfuncs.html"
BTF_DOC = "https://docs.kernel.org/bpf/btf.html"
LIBBPF_DOC = "https://docs.kernel.org/bpf/libbpf/program_types.html"
CORE_DOC = "https://docs.kernel.org/bpf/libbpf/libbpf_overview.html#bpf-co-re-compile-once-run-everywhere"
CAPABILITIES_DOC = "capabilities(7): CAP_BPF, CAP_PERFMON"
ISA_DOC = "RFC 9669; https://docs.kernel.org/bpf/standardization/instruction-set.html"
QUESTIONS_DOC = "https://docs.kernel.org/bpf/bpf_design_QA.html"


class Cause(Frozen):
    """A cause: its `meaning` as a heading, and the `reference` to read on."""

    meaning: str
    reference: str = VERIFIER_DOC


CAUSES: dict[str, Cause] = {
    "null-check-missing": Cause("a pointer is used before it was tested for NULL"),
    "nullable-tracepoint-argument": Cause("a tracepoint's argument that may be NULL is used without a test"),
    "direct-deref": Cause("a plain number is used as an address", HELPERS_DOC),
    "map-value-oob": Cause("a fixed place lies outside of a map value, record or other memory"),
    "index-unbounded": Cause("an index or offset is not bounded, or bounded wrongly"),
    "stack-out-of-bounds": Cause("an access lies outside of the stack or of a buffer on it"),
    "stack-limit": Cause("the stack frames need more than 512 bytes", QUESTIONS_DOC),
    "stack-uninit": Cause("stack bytes that were never written are read"),
    "reg-uninit": Cause("a register that holds no value is used"),
    "packet-bounds": Cause("packet bytes are used that no comparison with data_end covers"),
    "packet-pointer-stale": Cause(
        "a packet pointer is older than a call that may move the packet", HELPERS_DOC
    ),
    "use-after-release": Cause("something is used after it was given back"),
    "reference-leak": Cause("a path ends without giving back what it took"),
    "helper-mem-size": Cause("the size given to a helper may be wrong", HELPERS_DOC),
    "helper-arg-type": Cause("an argument of a helper has the wrong kind", HELPERS_DOC),
    "ctx-access": Cause("the context has no such field for this program"),
    "modified-ctx": Cause("the context pointer was changed before it was used"),
    "pointer-arithmetic": Cause("a pointer is used in a calculation that is not allowed"),
    "misaligned": Cause("an access is not aligned to its size"),
    "spill-corruption": Cause("a pointer that was saved on the stack was damaged"),
    "read-only-write": Cause("memory is written that may only be read"),
    "btf-access": Cause("an access leaves the kernel structure that it belongs to", BTF_DOC),
    "infinite-loop": Cause("a loop makes no progress"),
    "back-edge": Cause("a loop where none is allowed"),
    "too-complex": Cause("there is too much to check", QUESTIONS_DOC),
    "unreachable": Cause("instructions that are never reached, or a jump that leaves the program"),
    "no-exit": Cause("the program runs past its end"),
    "subprog-depth": Cause("calls are nested too deeply, or recursive"),
    "tail-call": Cause("a tail call that is not allowed here"),
    "return-range": Cause("the return value is not one that is allowed"),
    "helper-not-allowed": Cause("the helper is not for this kind of program", LIBBPF_DOC),
    "helper-too-new": Cause("the kernel is older than what the program uses", HELPERS_DOC),
    "gpl-only": Cause(
        "the licence is not compatible with the GPL", "https://docs.kernel.org/bpf/bpf_licensing.html"
    ),
    "kfunc": Cause("a kernel function may not be called so", KFUNCS_DOC),
    "core-relocation": Cause(
        "this kernel's types lack something that the program was compiled against", CORE_DOC
    ),
    "attach-target": Cause("the function or hook to attach to is not there, or not for this", LIBBPF_DOC),
    "map-helper-mismatch": Cause("the helper does not work on this type of map", HELPERS_DOC),
    "instruction-too-new": Cause("the instructions are newer than the kernel", ISA_DOC),
    "bad-instruction": Cause("an instruction that is never valid", ISA_DOC),
    "unprivileged-leak": Cause("something that only privileged programs may do", CAPABILITIES_DOC),
    "no-capability": Cause("a capability is missing", CAPABILITIES_DOC),
    "global-function": Cause("the rules for global functions"),
    "spin-lock": Cause("the rules for bpf_spin_lock", HELPERS_DOC),
    "rcu-preempt-context": Cause("sections of RCU, preemption or interrupts that do not match", KFUNCS_DOC),
    "dynptr": Cause("the rules for dynptrs", HELPERS_DOC),
    "iterator": Cause("the rules for iterators", "https://docs.kernel.org/bpf/bpf_iterators.html"),
    "sleepable": Cause("something sleeps where that is not allowed", LIBBPF_DOC),
    "timer-callback": Cause("the rules for timers", HELPERS_DOC),
    "printk-format": Cause("a format string that the helper does not take", HELPERS_DOC),
    "bad-sec-name": Cause("a section name that the loader does not know", LIBBPF_DOC),
    "btf-invalid": Cause("the type information is refused", BTF_DOC),
    "jit": Cause("the JIT compiler cannot do it", "/proc/sys/net/core/bpf_jit_enable"),
    "lockdown": Cause("the kernel is locked down", "kernel_lockdown(7)"),
    "log-truncated": Cause("the buffer for the log was too small", "bpf(2), log_size"),
    "kernel-bug": Cause("a fault of this kernel's verifier"),
}
