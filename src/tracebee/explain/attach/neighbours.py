"""Functions around one that cannot be hooked: who calls it, and whom it calls.

A kernel's own lists do not tell; the table is of calls in the kernel's sources that have stood for many releases.
What of it is offered must be looked up first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.explain.attach import names

if TYPE_CHECKING:
    from collections.abc import Iterator

AROUND = {
    # The nearest first; callers before callees where both are as near.
    "copy_page_to_iter": ("filemap_read", "pipe_read", "_copy_to_iter"),
    "copy_page_from_iter": ("generic_perform_write", "pipe_write", "_copy_from_iter"),
    "_copy_to_iter": ("filemap_read", "copy_page_to_iter", "simple_copy_to_iter"),
    "_copy_from_iter": ("generic_perform_write", "copy_page_from_iter"),
    "copy_to_user": ("_copy_to_user", "vfs_read", "ksys_read"),
    "copy_from_user": ("_copy_from_user", "vfs_write", "ksys_write"),
    "__schedule": ("schedule", "finish_task_switch.isra.0", "dequeue_task_fair"),
    "context_switch": ("schedule", "finish_task_switch.isra.0", "switch_mm_irqs_off"),
    "finish_task_switch": ("finish_task_switch.isra.0", "schedule_tail", "schedule"),
    "pick_next_task": ("pick_next_task_fair", "schedule"),
    "enqueue_task": ("enqueue_task_fair", "activate_task", "ttwu_do_activate"),
    "dequeue_task": ("dequeue_task_fair", "deactivate_task"),
    "ttwu_do_wakeup": ("ttwu_do_activate", "try_to_wake_up"),
    "ttwu_queue": ("try_to_wake_up", "ttwu_do_activate"),
    "switch_to": ("__switch_to", "finish_task_switch.isra.0", "schedule"),
    "__switch_to": ("finish_task_switch.isra.0", "schedule"),
    "new_sync_read": ("vfs_read", "ext4_file_read_iter", "generic_file_read_iter"),
    "new_sync_write": ("vfs_write", "ext4_file_write_iter", "generic_file_write_iter"),
    "do_iter_readv_writev": ("vfs_readv", "vfs_writev"),
    "do_sys_open": ("do_sys_openat2", "do_filp_open"),
    "do_open": ("path_openat", "vfs_open", "do_filp_open"),
    "open_last_lookups": ("path_openat", "do_filp_open"),
    "lookup_open": ("path_openat", "lookup_fast"),
    "walk_component": ("link_path_walk", "path_lookupat", "lookup_fast"),
    "do_symlink": ("do_symlinkat", "vfs_symlink"),
    "may_open": ("path_openat", "inode_permission"),
    "do_dentry_open": ("vfs_open", "security_file_open"),
    "exec_binprm": ("bprm_execve", "search_binary_handler", "begin_new_exec"),
    "search_binary_handler": ("bprm_execve", "load_elf_binary"),
    "do_exit": ("do_group_exit", "exit_mm", "taskstats_exit"),
    "exit_notify": ("do_exit", "release_task"),
    "copy_process": ("kernel_clone", "wake_up_new_task"),
    "do_wp_page": ("handle_mm_fault", "wp_page_copy"),
    "do_anonymous_page": ("handle_mm_fault", "__handle_mm_fault"),
    "handle_pte_fault": ("__handle_mm_fault", "handle_mm_fault"),
    "__handle_mm_fault": ("handle_mm_fault",),
    "do_user_addr_fault": ("handle_mm_fault", "lock_mm_and_find_vma"),
    "exc_page_fault": ("handle_mm_fault",),
    "get_page_from_freelist": ("__alloc_pages_noprof", "__alloc_pages", "__alloc_pages_nodemask"),
    "slab_alloc_node": ("kmem_cache_alloc_noprof", "kmem_cache_alloc", "__kmalloc_noprof", "__kmalloc"),
    "slab_free": ("kmem_cache_free", "kfree"),
    "kmalloc": ("__kmalloc_noprof", "__kmalloc"),
    "tcp_transmit_skb": ("__tcp_transmit_skb", "tcp_write_xmit"),
    "tcp_rcv_synsent_state_process": ("tcp_rcv_state_process",),
    "tcp_ack": ("tcp_rcv_established", "tcp_rcv_state_process"),
    "ip_finish_output2": ("ip_finish_output", "ip_output"),
    "ip_rcv_core": ("ip_rcv", "ip_local_deliver"),
    "ip_local_deliver_finish": ("ip_local_deliver", "ip_protocol_deliver_rcu"),
    "__netif_receive_skb_core": ("__netif_receive_skb", "__netif_receive_skb_list_core", "netif_receive_skb"),
    "__netif_receive_skb_one_core": ("__netif_receive_skb", "process_backlog"),
    "sock_sendmsg_nosec": ("sock_sendmsg", "__sys_sendto", "inet_sendmsg"),
    "sock_recvmsg_nosec": ("sock_recvmsg", "__sys_recvfrom", "inet_recvmsg"),
    "__submit_bio": ("submit_bio_noacct_nocheck", "submit_bio_noacct", "submit_bio"),
    "blk_account_io_start": ("__blk_account_io_start", "blk_mq_submit_bio", "blk_mq_start_request"),
    "blk_account_io_done": ("__blk_account_io_done", "__blk_mq_end_request", "blk_mq_end_request"),
    "rcu_read_lock": ("__rcu_read_lock",),
    "rcu_read_unlock": ("__rcu_read_unlock",),
    "spin_lock": ("_raw_spin_lock",),
    "spin_unlock": ("_raw_spin_unlock",),
    "spin_lock_irqsave": ("_raw_spin_lock_irqsave",),
    "__mutex_lock": ("mutex_lock", "__mutex_lock_slowpath"),
    "irq_enter_rcu": ("handle_irq_event", "handle_edge_irq"),
    "irq_exit_rcu": ("handle_irq_event", "handle_edge_irq"),
    "do_syscall_64": ("syscall_trace_enter", "exit_to_user_mode_prepare"),
    "__do_softirq": ("handle_softirqs", "net_rx_action", "tasklet_action"),
}

_PREFIXES = ("", "__", "_", "do_", "__do_", "vfs_", "ksys_", "__sys_", "do_sys_")
_SUFFIXES = ("", "_locked", "_common", "_internal", "_rcu", "_slowpath", "_noprof")


def around(name: str) -> tuple[str, ...]:
    """Functions that a function's work may be seen in, the nearest first: by the table, then by how names go."""
    return tuple(dict.fromkeys((*AROUND.get(name.partition(".")[0], ()), *_by_convention(name))))


def _by_convention(name: str) -> Iterator[str]:
    """``do_X``, ``__X``, ``vfs_X``, ``X_locked`` … call each other: the sources' way of splitting a function."""
    if names.syscall_of(name) or names.wrapped_syscall(name):
        return
    plain = name.partition(".")[0]
    bare = plain.lstrip("_")
    stem = next(
        (bare[len(one) :] for one in ("do_sys_", "do_", "ksys_", "vfs_") if bare.startswith(one)), bare
    )
    stem = next((stem.removesuffix(one) for one in _SUFFIXES if one and stem.endswith(one)), stem)
    if len(stem) < 3:
        return
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            other = f"{prefix}{stem}{suffix}"
            if other != plain:
                yield other
