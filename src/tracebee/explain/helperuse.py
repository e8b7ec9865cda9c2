"""What helpers are bound to, and what does their work where they may not be called.

Which types of program may call a helper is the kernel's to say (tracebee.session.helperuse asks it); this is what
its answer leaves out.
"""

from __future__ import annotations

BOUND = {
    # Helpers that a type of program alone does not open: each with what else it takes.
    "override_return": "only kprobes on functions marked ALLOW_ERROR_INJECTION, in a kernel built with "
    "CONFIG_BPF_KPROBE_OVERRIDE",
    "d_path": "only fentry and fexit on a short list of functions (vfs_getattr, vfs_truncate, dentry_open, "
    "filp_close, security_file_open and other security_ hooks), iterators, and LSM programs",
    "copy_from_user": "it may sleep: only programs that are loaded as sleepable",
    "copy_from_user_task": "it may sleep: only programs that are loaded as sleepable",
    "ima_inode_hash": "it may sleep: only sleepable LSM programs, in a kernel built with CONFIG_IMA",
    "ima_file_hash": "it may sleep: only sleepable LSM programs, in a kernel built with CONFIG_IMA",
    "probe_write_user": "not in a kernel that is locked down (lockdown=integrity and above)",
    "get_func_arg": "only fentry, fexit and fmod_ret, where the arguments are known",
    "get_func_arg_cnt": "only fentry, fexit and fmod_ret, where the arguments are known",
    "get_func_ret": "only fexit and fmod_ret",
    "get_func_ip": "only kprobes, uprobes, fentry and fexit",
    "get_attach_cookie": "only programs that are attached with a cookie: kprobes, uprobes, tracepoints, perf events, "
    "and since Linux 5.19 fentry and LSM",
    "get_cgroup_classid": "only in a kernel built with CONFIG_CGROUP_NET_CLASSID",
    "seq_printf": "only iterators, which have a file to write to",
    "seq_write": "only iterators, which have a file to write to",
    "seq_printf_btf": "only iterators, which have a file to write to",
    "perf_prog_read_value": "only perf event programs (profile, hardware, software)",
    "read_branch_records": "only perf event programs, on a processor that records branches",
}

INSTEAD = {
    "override_return": "fmod_ret or an LSM program can refuse an operation; bpf_send_signal(SIGKILL) ends its caller",
    "d_path": "walk the dentries (kstr(dentry->d_name.name)), take the path from the system call's tracepoint, or "
    "iter:task_file",
    "copy_from_user": "bpf_probe_read_user, which does not sleep and fails on pages that are not there",
    "copy_from_user_task": "bpf_probe_read_user in the context of that task",
    "probe_write_user": "nothing: write from user space (process_vm_writev, ptrace)",
    "probe_read_kernel": "bpf_probe_read before Linux 5.5; direct loads from typed pointers in fentry, tp_btf, LSM",
    "probe_read_user": "bpf_probe_read before Linux 5.5",
    "probe_read": "bpf_probe_read_kernel or bpf_probe_read_user since Linux 5.5",
    "probe_read_str": "bpf_probe_read_kernel_str or bpf_probe_read_user_str since Linux 5.5",
    "get_func_arg": "the arguments in the registers of struct pt_regs, in a kprobe",
    "get_func_ret": "the register of the result, in a kretprobe",
    "get_func_ip": "one program for each function; PT_REGS_IP in a kprobe",
    "get_attach_cookie": "one program for each place, or a map from bpf_get_func_ip",
    "get_current_task_btf": "bpf_get_current_task and bpf_probe_read_kernel (BPF_CORE_READ)",
    "get_current_comm": "bpf_get_current_task, or a tracepoint that has the task; network programs have none",
    "get_current_pid_tgid": "a tracing program and a map in common with this one; network programs have no task",
    "get_ns_current_pid_tgid": "bpf_get_current_pid_tgid, and nsproxy of the task by BPF_CORE_READ",
    "ktime_get_boot_ns": "bpf_ktime_get_ns, which stands still during suspend",
    "ktime_get_tai_ns": "bpf_ktime_get_boot_ns and an offset from user space",
    "ktime_get_coarse_ns": "bpf_ktime_get_ns",
    "ringbuf_output": "bpf_perf_event_output with a map of type perf_event_array",
    "ringbuf_reserve": "bpf_perf_event_output with a map of type perf_event_array",
    "perf_event_output": "bpf_ringbuf_output since Linux 5.8",
    "skb_output": "bpf_perf_event_output of what was read from the skb",
    "xdp_output": "bpf_perf_event_output",
    "loop": "a bounded loop, since Linux 5.3, or an unrolled one",
    "for_each_map_elem": "walk the map from user space, or a bounded loop over the keys of an array",
    "strncmp": "a bounded loop over the characters",
    "trace_vprintk": "bpf_trace_printk, with three values",
    "snprintf": "format in user space",
    "seq_printf": "bpf_ringbuf_output, or bpf_trace_printk to debug",
    "seq_write": "bpf_ringbuf_output",
    "send_signal": "tell user space, which sends the signal",
    "send_signal_thread": "bpf_send_signal, which any thread of the process may get",
    "get_stackid": "bpf_get_stack; in network programs there is no stack of interest",
    "get_stack": "bpf_get_stackid with a map of type stack_trace",
    "get_task_stack": "bpf_get_stack for the current task",
    "read_branch_records": "perf record -b",
    "perf_prog_read_value": "bpf_perf_event_read_value with a map of type perf_event_array",
    "perf_event_read": "bpf_perf_event_read_value since Linux 4.15",
    "redirect": "return TC_ACT_REDIRECT or XDP_REDIRECT in a tc or XDP program",
    "skb_load_bytes": "direct access to the packet (ctx->data) in XDP; bpf_probe_read_kernel of skb->head in "
    "tracing programs",
    "xdp_adjust_head": "bpf_skb_adjust_room in tc",
    "task_storage_get": "a hash map by thread id",
    "get_current_cgroup_id": "the task's cgroups by BPF_CORE_READ",
    "sysctl_get_name": "a kprobe on proc_sys_call_handler",
    "get_socket_cookie": "the address of the struct sock as a key",
}
"""By the name without prefix: another way to the same end, in words."""


def bound(helper: str) -> str:
    """What a helper is bound to besides the type of program; empty where nothing is known."""
    return BOUND.get(helper.removeprefix("bpf_"), "")


def instead_of(helper: str) -> str:
    """Another way to what a helper does; empty where none is known."""
    return INSTEAD.get(helper.removeprefix("bpf_"), "")
