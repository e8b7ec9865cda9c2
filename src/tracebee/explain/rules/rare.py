"""Messages that are seldom met: the group they belong to is known, the words are the kernel's.  Never sure."""

from __future__ import annotations

from tracebee.explain.rules.record import WEAK, Rule, plain

_RARE: tuple[tuple[str, str, str, str], ...] = (
    (
        "packet-pointer-stale",
        r"(.* is a packet pointer, but func#\d+ may change packet data.*)",
        "A packet pointer is passed to a global function that may move the packet: {0}.",
        "pass the context, and read data and data_end again inside the function and after it",
    ),
    (
        "use-after-release",
        r"(invalid bpf_context access off=-?\d+\. Reference may already be released)",
        "A pointer that the context gave is read again after its reference was released: {0}.",
        "read the field once, before the release",
    ),
    (
        "ctx-access",
        r"(error during ctx access conversion.*|func '[^']*' arg\d+ .*|invalid access to context, "
        r"ctx_size=.*)",
        "The context (ctx) or an argument of the hook cannot be read so: {0}.",
        "read arguments of a pointer or number type, whole, and only those that the function has",
    ),
    (
        "btf-access",
        r"(.* is a pointer to in-kernel struct with non-zero offset)",
        "A pointer to a kernel struct was moved before it is used: {0}.",
        "use the original pointer with a field offset in the access",
    ),
    (
        "map-value-oob",
        r"(invalid access to map value pointer, value_size=\d+ off=\d+)",
        "The address of a global variable is outside of its map value (beyond its size): {0}.",
        "keep the offset inside the variable",
    ),
    (
        "reg-uninit",
        r"(reading from stack .*slot poisoned by dead code elimination)",
        "A stack slot is read that the verifier took for dead: {0}.",
        "initialise the variable on every path before it is read",
    ),
    (
        "unprivileged-leak",
        r"(leaking pointer from stack off -?\d+)",
        "An unprivileged program would hand a pointer on its stack out: {0}.",
        "do not pass pointers in the memory, or load the program with CAP_BPF and CAP_PERFMON",
    ),
    (
        "spill-corruption",
        r"(spilled ptr in range of var-offset stack write.*)",
        "A write to the stack at a variable offset could overwrite a saved (spilled) pointer: {0}.",
        "bound the index to the buffer, so that the slot with the pointer is out of its range",
    ),
    (
        "stack-out-of-bounds",
        r"(invalid read from stack arg off .*|stack arg write offset .*|stack size \d+\(extra \d+\) is too "
        r"large)",
        "The stack is used beyond its size or the arguments on it: {0}.",
        "use less stack, and pass fewer arguments",
    ),
    (
        "return-range",
        r"(BPF_LSM_CGROUP that attach to void LSM hooks can't modify return value!|Attach to function .* "
        r"with a >8 "
        r"byte return value.*|callback leftover stack slots.*)",
        "The return value cannot be changed or is not one that is allowed: {0}.",
        "return 0 or 1 as the hook's documentation says",
    ),
    (
        "rcu-preempt-context",
        r"(.*exception (?:callback|cb).*|Calling bpf_rcu_read_\{lock,unlock\} in .*)",
        "A rule for exceptions or RCU sections is broken: {0}.",
        "follow the rules for exception callbacks: one global function with one integer argument",
    ),
    (
        "spin-lock",
        r"(.*has no valid \w*_lock)",
        "There is no lock where one is expected: {0}.",
        "put a struct bpf_spin_lock into the map value, with BTF types",
    ),
    (
        "read-only-write",
        r"(invalid map_ptr to access map->\w+|write access at off \d+ with size "
        r"\d+.*|.*rdonly/rdwr_buf_size.*"
        r"|.*bpf_rdonly_cast.*)",
        "Memory that may only be read, or not so, is accessed: {0}.",
        "only read it, through the type that the function gave",
    ),
    (
        "kfunc",
        r"(.*(?:kernel func|kfunc|acquire kernel function|kernel btf_id|allocated object must|untrusted "
        r"cannot be "
        r"combined).*)",
        "A kernel function (kfunc) is called in a way that this kernel does not take: {0}.",
        "compare the call with the function's prototype and flags on this kernel",
    ),
    (
        "attach-target",
        r"(Helper has invalid btf.*|struct_ops module .*|freplace programs .*|btf_vmlinux_value_type_id can "
        r"only.*)",
        "What the program is to be attached to is not there or not of the right kind: {0}.",
        "check the target's name and type in the kernel's BTF",
    ),
    (
        "bad-instruction",
        r"(insn \d+ cannot be patched.*|ldimm64 .*|.*jump table.*|pseudo btf_id .*|reserved field.*"
        r"|invalid insn idx.*|r11 load must.*|stack_slots supports.*|unrecognized \S+ type \d+"
        r"|call to invalid destination|callee not found at insn.*|target of func call.*|64-bit "
        r"(?:store-releases|load-acquires).*)",
        "An instruction is not one that this kernel takes: {0}.",
        "build the object with a compiler and loader that fit this kernel",
    ),
    (
        "map-helper-mismatch",
        r"(fd \d+ is not pointing to valid bpf_map|fd_idx .*|fd_array.*|Invalid map_type.*)",
        "A map reference in the program is not a map that fits: {0}.",
        "let the loader create the map first, with the type that the program needs",
    ),
    (
        "global-function",
        r"((?:func#|[Aa]rg#|Unrecognized |unhandled arg#).*)",
        "An argument of a global function is not of a type that the verifier takes: {0}.",
        "use numbers or pointers to structs of fixed size as arguments, or make the function static",
    ),
    (
        "helper-arg-type",
        r"((?:R\d+|arg\d+) (?:doesn't|does not|has|expect|must|is|points|pointer|invalid) .*|.*may write "
        r"into memory "
        r"pointed by .*|Two map pointers in .*|.*expects arg#1.*|unsupported arg type.*|invalid access to "
        r"flow keys.*"
        r"|invalid arg_type for .*|function expects only one referenced object.*|the prog does not allow "
        r"writes to "
        r"packet data|register R\d+ doesn't point to any offset.*|off=\d+ doesn't point to .*|expected \S+ "
        r"or socket"
        r"|callee expects \d+ args.*)",
        "An argument of the called function has the wrong kind: {0}.",
        "pass what the function's prototype asks for",
    ),
)

RULES: tuple[Rule, ...] = tuple(
    plain(cause, pattern, sentence, advice, sure=False, weight=WEAK)
    for cause, pattern, sentence, advice in _RARE
)
