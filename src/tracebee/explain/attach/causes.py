"""Why attaching fails, or succeeds and nothing fires: the ids that answers carry, and what each stands for.

The ids are stable; scripts compare them.
"""

from __future__ import annotations

CAUSES = {
    # the name
    "syscall-renamed": "the function of a system call has the name of its architecture's wrapper",
    "suffixed-variant": "the compiler made only variants of the function (.isra, .part, .constprop)",
    "inlined-or-missing": "there is no symbol of that name: inlined into its callers, or never there",
    "renamed-function": "this kernel has another function in its place",
    "misspelt": "the name is written wrongly, and a near one exists",
    "ambiguous-symbol": "several functions have that name",
    "module-not-loaded": "the function belongs to a module that is not loaded",
    # the place
    "notrace": "the function is there but has no place for a hook",
    "blacklisted": "kprobes must not be on it",
    "init-function": "code of the start of the system or of a module's end, which is gone",
    "not-a-function": "the symbol is data",
    "bad-offset": "the offset is no place for a probe",
    # probe events of tracefs
    "bad-fetch-arg": "an argument of the probe event is wrong",
    "bad-event-name": "the event or its group may not be called so",
    "event-exists": "there is an event of that name",
    # tracepoints
    "tracepoint-missing": "this kernel has no such tracepoint",
    "tracepoint-arg-offset": "the program reads behind the end of the tracepoint's record",
    "raw-tracepoint-name": "raw tracepoints are named otherwise",
    # programs and links
    "program-type-mismatch": "the program was loaded for another kind of attachment",
    "program-type-unsupported": "this kernel does not have the program type",
    "fentry-target": "trampolines cannot be put there",
    "fentry-unsupported": "this kernel has no trampolines for BPF",
    "bpf-lsm-off": "BPF is not among the active security modules",
    "kprobe-multi-unsupported": "this kernel has no multi-kprobes",
    "kprobe-multi-symbol": "one name of the list cannot be hooked",
    "kernel-version-mismatch": "the program names another kernel version than the running one",
    # user space
    "uprobe-file": "the file is not there, or is no regular file",
    "uprobe-offset": "the offset is no place for a probe in that file",
    "uprobe-symbol": "the symbol is not in the file",
    # rights and settings
    "no-capability": "a capability, or the right to open a file, is missing",
    "tracefs-permission": "tracefs is readable by root alone",
    "perf-paranoid": "kernel.perf_event_paranoid forbids it",
    "seccomp": "a seccomp filter answers instead of the kernel",
    "user-namespace": "the process is root in its user namespace alone",
    "too-many-files": "no more file descriptors",
    "memlock": "RLIMIT_MEMLOCK, on kernels that count BPF memory for it",
    "kptr-restrict": "kernel addresses are hidden",
    "kprobes-disarmed": "kprobes are switched off: attached, but never fires",
    "ftrace-disabled": "function tracing is switched off",
    "tracefs-not-mounted": "tracefs is not mounted here",
    "lockdown": "kernel lockdown forbids it",
    "config-missing": "the kernel was built without it",
    # maps and pins
    "map-attributes": "sizes or flags that this map type does not take",
    "map-type-unsupported": "this kernel does not have the map type",
    "pin": "the place or the name is not one for pinning",
}
