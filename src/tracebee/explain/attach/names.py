"""Names of functions: what became of them, which module they are in, and how near two names are.

None of it takes the place of the machine's own lists; it says what such lists cannot, and stands in where there
is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Renamed(NamedTuple):
    """A function that is gone: since which release, and what does its work now, the nearest first."""

    since: str
    successors: tuple[str, ...]
    note: str = ""


RENAMED = {
    # From the kernel's history: functions that scripts and tools of their time hooked.
    "do_fork": Renamed("4.2", ("kernel_clone", "_do_fork")),
    "_do_fork": Renamed("5.10", ("kernel_clone",)),
    "do_sync_read": Renamed("4.1", ("new_sync_read", "vfs_read")),
    "do_sync_write": Renamed("4.1", ("new_sync_write", "vfs_write")),
    "__vfs_read": Renamed("5.10", ("vfs_read", "kernel_read")),
    "__vfs_write": Renamed("5.10", ("vfs_write", "kernel_write")),
    "do_execve": Renamed("5.9", ("do_execveat_common.isra.0", "bprm_execve")),
    "__do_execve_file": Renamed("5.9", ("do_execveat_common.isra.0", "bprm_execve")),
    "do_execve_file": Renamed("5.9", ("kernel_execve", "bprm_execve")),
    "flush_old_exec": Renamed("5.8", ("begin_new_exec",)),
    "install_exec_creds": Renamed("5.8", ("begin_new_exec",)),
    "copy_thread_tls": Renamed("5.9", ("copy_thread",)),
    "complete_and_exit": Renamed("5.17", ("kthread_complete_and_exit",)),
    "do_coredump": Renamed("6.16", ("vfs_coredump",)),
    "send_signal": Renamed("5.19", ("send_signal_locked",)),
    "__send_signal": Renamed("5.19", ("__send_signal_locked", "send_signal_locked")),
    "force_sig_info": Renamed("5.3", ("force_sig_info_to_task",)),
    "ksys_mount": Renamed("5.9", ("path_mount",)),
    "ksys_umount": Renamed("5.9", ("path_umount",)),
    "do_mount": Renamed("5.9", ("path_mount",), "do_mount is inlined where it is still there"),
    "ksys_close": Renamed("5.11", ("close_fd",)),
    "__close_fd": Renamed("5.11", ("close_fd",)),
    "__fget": Renamed("5.7", ("__fget_files", "fget")),
    "ksys_open": Renamed("5.6", ("do_sys_openat2", "do_sys_open")),
    "vfs_statx_fd": Renamed("5.10", ("vfs_fstat", "vfs_statx")),
    "do_iter_read": Renamed("6.8", ("vfs_iter_read", "vfs_iocb_iter_read")),
    "do_iter_write": Renamed("6.8", ("vfs_iter_write", "vfs_iocb_iter_write")),
    "generic_file_splice_read": Renamed("6.5", ("filemap_splice_read",)),
    "generic_file_aio_read": Renamed("3.16", ("generic_file_read_iter",)),
    "generic_file_aio_write": Renamed("3.16", ("generic_file_write_iter",)),
    "generic_file_buffered_read": Renamed("5.12", ("filemap_read",)),
    "do_generic_file_read": Renamed("4.14", ("generic_file_buffered_read", "filemap_read")),
    # Pages became folios.
    "account_page_dirtied": Renamed("5.16", ("folio_account_dirtied", "__folio_mark_dirty")),
    "account_page_cleaned": Renamed("5.16", ("folio_account_cleaned",)),
    "mark_page_accessed": Renamed("5.16", ("folio_mark_accessed",)),
    "activate_page": Renamed("5.16", ("folio_activate", "folio_mark_accessed")),
    "lru_cache_add": Renamed("5.16", ("folio_add_lru",)),
    "__set_page_dirty": Renamed("5.16", ("__folio_mark_dirty",)),
    "__set_page_dirty_nobuffers": Renamed("5.18", ("filemap_dirty_folio",)),
    "__set_page_dirty_buffers": Renamed("5.18", ("block_dirty_folio",)),
    "test_set_page_writeback": Renamed("5.16", ("__folio_start_writeback",)),
    "test_clear_page_writeback": Renamed("5.16", ("folio_end_writeback", "__folio_end_writeback")),
    "wait_on_page_writeback": Renamed("5.16", ("folio_wait_writeback",)),
    "wait_on_page_bit": Renamed("5.16", ("folio_wait_bit",)),
    "add_to_page_cache_lru": Renamed("5.16", ("filemap_add_folio",)),
    "add_to_page_cache_locked": Renamed("5.16", ("__filemap_add_folio", "filemap_add_folio")),
    "__add_to_page_cache_locked": Renamed("5.16", ("__filemap_add_folio", "filemap_add_folio")),
    "delete_from_page_cache": Renamed("5.18", ("filemap_remove_folio",)),
    "__delete_from_page_cache": Renamed("5.16", ("__filemap_remove_folio",)),
    "find_get_entry": Renamed("5.17", ("filemap_get_entry", "__filemap_get_folio")),
    "__page_cache_alloc": Renamed("5.16", ("filemap_alloc_folio",)),
    "try_to_release_page": Renamed("6.1", ("filemap_release_folio",)),
    "shrink_page_list": Renamed("6.0", ("shrink_folio_list",)),
    "__put_page": Renamed("6.1", ("__folio_put",)),
    "rotate_reclaimable_page": Renamed("5.16", ("folio_rotate_reclaimable",)),
    "migrate_page_copy": Renamed("6.1", ("folio_migrate_copy",)),
    "migrate_page": Renamed("6.0", ("migrate_folio",)),
    "page_add_new_anon_rmap": Renamed("6.8", ("folio_add_new_anon_rmap",)),
    "page_remove_rmap": Renamed("6.8", ("folio_remove_rmap_ptes",)),
    "swap_readpage": Renamed("6.9", ("swap_read_folio",)),
    "swap_writepage": Renamed("6.16", ("swap_writeout",)),
    "__do_page_cache_readahead": Renamed("5.8", ("do_page_cache_ra", "page_cache_ra_unbounded")),
    "ondemand_readahead": Renamed("6.10", ("page_cache_async_ra", "page_cache_sync_ra")),
    "page_cache_async_readahead": Renamed("5.10", ("page_cache_async_ra",)),
    "page_cache_sync_readahead": Renamed("5.10", ("page_cache_sync_ra",)),
    "mpage_readpages": Renamed("5.8", ("mpage_readahead",)),
    "ext4_readpages": Renamed("5.8", ("ext4_readahead",)),
    # Memory.
    "do_page_fault": Renamed("5.8", ("exc_page_fault", "do_user_addr_fault", "handle_mm_fault")),
    "__do_page_fault": Renamed("5.8", ("handle_page_fault", "do_user_addr_fault", "handle_mm_fault")),
    "do_mmap_pgoff": Renamed("5.9", ("do_mmap",)),
    "__do_munmap": Renamed("6.2", ("do_vmi_munmap",)),
    "__vma_adjust": Renamed("6.3", ("vma_merge", "split_vma")),
    "__alloc_pages_nodemask": Renamed("5.13", ("__alloc_pages", "__alloc_pages_noprof")),
    "__alloc_pages": Renamed("6.10", ("__alloc_pages_noprof",)),
    "alloc_pages_current": Renamed("5.13", ("alloc_pages", "alloc_pages_noprof")),
    "alloc_pages": Renamed("6.10", ("alloc_pages_noprof",)),
    "alloc_pages_vma": Renamed("5.18", ("vma_alloc_folio", "vma_alloc_folio_noprof")),
    "__get_free_pages": Renamed("6.10", ("get_free_pages_noprof",)),
    "__kmalloc": Renamed("6.10", ("__kmalloc_noprof",)),
    "__kmalloc_node": Renamed("6.10", ("__kmalloc_node_noprof",)),
    "kmalloc_trace": Renamed("6.10", ("__kmalloc_cache_noprof",)),
    "kmem_cache_alloc_trace": Renamed("6.1", ("kmalloc_trace", "__kmalloc_cache_noprof")),
    "kmem_cache_alloc": Renamed("6.10", ("kmem_cache_alloc_noprof",)),
    "kmem_cache_alloc_node": Renamed("6.10", ("kmem_cache_alloc_node_noprof",)),
    "__kmalloc_track_caller": Renamed("6.10", ("__kmalloc_node_track_caller_noprof",)),
    "krealloc": Renamed("6.10", ("krealloc_noprof", "krealloc_node_align_noprof")),
    "vmalloc": Renamed("6.10", ("vmalloc_noprof",)),
    "__vmalloc": Renamed("6.10", ("__vmalloc_noprof",)),
    "probe_kernel_read": Renamed("5.8", ("copy_from_kernel_nofault",)),
    "probe_kernel_write": Renamed("5.8", ("copy_to_kernel_nofault",)),
    "probe_user_read": Renamed("5.8", ("copy_from_user_nofault",)),
    # Interrupts and exceptions of x86.
    "do_IRQ": Renamed("5.8", ("common_interrupt", "handle_irq_event")),
    "smp_apic_timer_interrupt": Renamed("5.8", ("sysvec_apic_timer_interrupt",)),
    "smp_reschedule_interrupt": Renamed("5.8", ("sysvec_reschedule_ipi",)),
    "smp_call_function_interrupt": Renamed("5.8", ("sysvec_call_function",)),
    "do_nmi": Renamed("5.8", ("exc_nmi",)),
    "do_int3": Renamed("5.8", ("exc_int3",)),
    "do_general_protection": Renamed("5.8", ("exc_general_protection",)),
    "do_debug": Renamed("5.8", ("exc_debug",)),
    # Scheduler, timers, RCU.
    "scheduler_tick": Renamed("6.10", ("sched_tick",)),
    "load_balance": Renamed("6.10", ("sched_balance_rq",)),
    "rebalance_domains": Renamed("6.10", ("sched_balance_domains",)),
    "run_rebalance_domains": Renamed("6.10", ("sched_balance_softirq",)),
    "find_busiest_group": Renamed("6.10", ("sched_balance_find_src_group",)),
    "newidle_balance": Renamed("6.10", ("sched_balance_newidle",)),
    "idle_balance": Renamed("5.5", ("newidle_balance", "sched_balance_newidle")),
    "del_timer": Renamed("6.15", ("timer_delete",)),
    "del_timer_sync": Renamed("6.15", ("timer_delete_sync",)),
    "hrtimer_init": Renamed("6.15", ("hrtimer_setup",)),
    "call_rcu_sched": Renamed("5.1", ("call_rcu",)),
    "synchronize_sched": Renamed("5.1", ("synchronize_rcu",)),
    "prandom_u32": Renamed("6.2", ("get_random_u32",)),
    "extract_crng": Renamed("5.18", ("crng_make_state", "get_random_bytes")),
    # Block devices.
    "generic_make_request": Renamed("5.9", ("submit_bio_noacct",)),
    "blk_mq_make_request": Renamed("5.9", ("blk_mq_submit_bio",)),
    "blk_start_request": Renamed("5.0", ("blk_mq_start_request",)),
    "blk_finish_request": Renamed("5.0", ("blk_mq_end_request",)),
    "blk_end_request": Renamed("5.0", ("blk_mq_end_request",)),
    "__elv_add_request": Renamed("5.0", ("blk_mq_insert_request",)),
    "blk_account_io_start": Renamed("5.16", ("__blk_account_io_start", "blk_mq_start_request")),
    "blk_account_io_done": Renamed("5.16", ("__blk_account_io_done", "blk_mq_end_request")),
    "blk_account_io_completion": Renamed("5.16", ("blk_update_request",)),
    "__blkdev_get": Renamed("5.13", ("blkdev_get_by_dev", "bdev_open")),
    "blkdev_get_by_dev": Renamed("6.8", ("bdev_open_by_dev", "bdev_file_open_by_dev")),
    "thaw_bdev": Renamed("6.8", ("bdev_thaw",)),
    "freeze_bdev": Renamed("6.8", ("bdev_freeze",)),
    # Networking.
    "kfree_skb": Renamed("5.17", ("kfree_skb_reason", "sk_skb_reason_drop")),
    "kfree_skb_reason": Renamed("6.11", ("sk_skb_reason_drop",)),
    "tcp_drop": Renamed("5.18", ("tcp_drop_reason", "kfree_skb_reason", "sk_skb_reason_drop")),
    "dev_queue_xmit": Renamed("6.0", ("__dev_queue_xmit",)),
    "netif_rx_ni": Renamed("5.18", ("netif_rx",)),
    "napi_gro_receive": Renamed("6.16", ("gro_receive_skb",)),
    "tcp_sendpage": Renamed("6.5", ("tcp_sendmsg", "tcp_sendmsg_locked")),
    "udp_sendpage": Renamed("6.5", ("udp_sendmsg",)),
    "inet_sendpage": Renamed("6.5", ("inet_sendmsg",)),
    "kernel_sendpage": Renamed("6.5", ("sock_sendmsg",)),
    "sock_no_sendpage": Renamed("6.5", ("sock_sendmsg",)),
    "sk_stream_alloc_skb": Renamed("5.17", ("tcp_stream_alloc_skb",)),
    "sock_setsockopt": Renamed("6.1", ("sk_setsockopt", "do_sock_setsockopt")),
    "sock_getsockopt": Renamed("6.1", ("sk_getsockopt", "do_sock_getsockopt")),
}
"""Functions by their old name."""

TRACEPOINTS_INSTEAD = {
    # The tracepoint that tells of the same thing, where a function cannot be hooked.
    "vfs_read": ("syscalls:sys_enter_read",),
    "vfs_write": ("syscalls:sys_enter_write",),
    "vfs_open": ("syscalls:sys_enter_openat",),
    "do_sys_open": ("syscalls:sys_enter_openat", "syscalls:sys_enter_open"),
    "do_sys_openat2": ("syscalls:sys_enter_openat",),
    "do_filp_open": ("syscalls:sys_enter_openat",),
    "vfs_unlink": ("syscalls:sys_enter_unlinkat",),
    "vfs_fsync": ("syscalls:sys_enter_fsync",),
    "kernel_clone": ("sched:sched_process_fork",),
    "bprm_execve": ("sched:sched_process_exec",),
    "handle_mm_fault": ("exceptions:page_fault_user",),
    "tcp_connect": ("sock:inet_sock_set_state",),
    "tcp_v4_connect": ("sock:inet_sock_set_state",),
    "tcp_v6_connect": ("sock:inet_sock_set_state",),
    "tcp_close": ("sock:inet_sock_set_state",),
    "inet_csk_accept": ("sock:inet_sock_set_state",),
    "tcp_sendmsg": ("sock:sock_send_length",),
    "tcp_recvmsg": ("sock:sock_recv_length",),
    "consume_skb": ("skb:consume_skb",),
    "__dev_queue_xmit": ("net:net_dev_queue",),
    "submit_bio": ("block:block_bio_queue",),
    "submit_bio_noacct": ("block:block_bio_queue",),
    "blk_mq_start_request": ("block:block_rq_issue",),
    "blk_mq_end_request": ("block:block_rq_complete",),
    "blk_update_request": ("block:block_rq_complete",),
    "kfree": ("kmem:kfree",),
    "kmem_cache_free": ("kmem:kmem_cache_free",),
    "out_of_memory": ("oom:mark_victim",),
    "do_exit": ("sched:sched_process_exit",),
    "do_group_exit": ("sched:sched_process_exit",),
    "finish_task_switch": ("sched:sched_switch",),
    "__schedule": ("sched:sched_switch",),
    "schedule": ("sched:sched_switch",),
    "context_switch": ("sched:sched_switch",),
    "try_to_wake_up": ("sched:sched_wakeup",),
    "wake_up_new_task": ("sched:sched_wakeup_new",),
    "_do_fork": ("sched:sched_process_fork",),
    "do_fork": ("sched:sched_process_fork",),
    "do_execve": ("sched:sched_process_exec",),
    "do_page_fault": ("exceptions:page_fault_user", "exceptions:page_fault_kernel"),
    "do_IRQ": ("irq:irq_handler_entry",),
    "__do_softirq": ("irq:softirq_entry",),
    "blk_account_io_start": ("block:block_io_start", "block:block_rq_issue"),
    "blk_account_io_done": ("block:block_io_done", "block:block_rq_complete"),
    "generic_make_request": ("block:block_bio_queue",),
    "account_page_dirtied": ("writeback:writeback_dirty_folio", "writeback:writeback_dirty_page"),
    "kfree_skb": ("skb:kfree_skb",),
    "tcp_drop": ("skb:kfree_skb",),
    "tcp_set_state": ("sock:inet_sock_set_state",),
    "tcp_retransmit_skb": ("tcp:tcp_retransmit_skb",),
    "netif_receive_skb": ("net:netif_receive_skb",),
    "__kmalloc": ("kmem:kmalloc",),
    "kmalloc": ("kmem:kmalloc",),
    "kmem_cache_alloc": ("kmem:kmem_cache_alloc",),
    "__alloc_pages": ("kmem:mm_page_alloc",),
    "oom_kill_process": ("oom:mark_victim",),
    "do_coredump": ("signal:signal_deliver",),
    "send_signal": ("signal:signal_generate",),
    "__send_signal": ("signal:signal_generate",),
}

MODULE_PREFIXES = {
    # Beginnings of names that one module gives to its functions, where distributions do not build it in.
    "xfs_": "xfs",
    "btrfs_": "btrfs",
    "ext4_": "ext4",
    "jbd2_": "jbd2",
    "f2fs_": "f2fs",
    "nfs_": "nfs",
    "nfs4_": "nfsv4",
    "nfsd_": "nfsd",
    "nfsd4_": "nfsd",
    "cifs_": "cifs",
    "smb2_": "cifs",
    "ceph_": "ceph",
    "gfs2_": "gfs2",
    "ocfs2_": "ocfs2",
    "zfs_": "zfs",
    "spl_": "spl",
    "fuse_": "fuse",
    "ovl_": "overlay",
    "fat_": "fat",
    "vfat_": "vfat",
    "ntfs3_": "ntfs3",
    "ntfs_": "ntfs3",
    "squashfs_": "squashfs",
    "isofs_": "isofs",
    "udf_": "udf",
    "exfat_": "exfat",
    "bcachefs_": "bcachefs",
    "bch2_": "bcachefs",
    "p9_": "9pnet",
    "v9fs_": "9p",
    "sunrpc_": "sunrpc",
    "rpc_": "sunrpc",
    "xprt_": "sunrpc",
    "svc_": "sunrpc",
    "kvm_": "kvm",
    "vmx_": "kvm_intel",
    "svm_": "kvm_amd",
    "nested_vmx_": "kvm_intel",
    "vhost_": "vhost",
    "virtio_gpu_": "virtio_gpu",
    "virtnet_": "virtio_net",
    "nf_conntrack_": "nf_conntrack",
    "nf_ct_": "nf_conntrack",
    "nf_nat_": "nf_nat",
    "nft_": "nf_tables",
    "nf_tables_": "nf_tables",
    "ipt_": "ip_tables",
    "ip6t_": "ip6_tables",
    "xt_": "x_tables",
    "br_": "bridge",
    "bond_": "bonding",
    "ovs_": "openvswitch",
    "tun_": "tun",
    "tap_": "tap",
    "veth_": "veth",
    "vxlan_": "vxlan",
    "geneve_": "geneve",
    "wg_": "wireguard",
    "macvlan_": "macvlan",
    "ipvlan_": "ipvlan",
    "vlan_": "8021q",
    "sctp_": "sctp",
    "tls_": "tls",
    "tipc_": "tipc",
    "bbr_": "tcp_bbr",
    "dctcp_": "tcp_dctcp",
    "i915_": "i915",
    "amdgpu_": "amdgpu",
    "nouveau_": "nouveau",
    "drm_": "drm",
    "nvme_": "nvme",
    "nvmet_": "nvmet",
    "md_": "md_mod",
    "raid5_": "raid456",
    "raid1_": "raid1",
    "dm_": "dm_mod",
    "loop_": "loop",
    "nbd_": "nbd",
    "rbd_": "rbd",
    "zram_": "zram",
    "ahci_": "ahci",
    "e1000_": "e1000",
    "e1000e_": "e1000e",
    "igb_": "igb",
    "ixgbe_": "ixgbe",
    "i40e_": "i40e",
    "ice_": "ice",
    "mlx4_": "mlx4_core",
    "mlx5_": "mlx5_core",
    "mlx5e_": "mlx5_core",
    "bnxt_": "bnxt_en",
    "ena_": "ena",
    "iwl_": "iwlwifi",
    "ath10k_": "ath10k_core",
    "ath9k_": "ath9k",
    "ieee80211_": "mac80211",
    "cfg80211_": "cfg80211",
    "snd_": "snd",
    "usb_serial_": "usbserial",
    "hfs_": "hfs",
    "hfsplus_": "hfsplus",
    "jfs_": "jfs",
    "reiserfs_": "reiserfs",
    "minix_": "minix",
    "erofs_": "erofs",
    "ubifs_": "ubifs",
    "jffs2_": "jffs2",
    "nilfs_": "nilfs2",
    "ecryptfs_": "ecryptfs",
    "orangefs_": "orangefs",
    "afs_": "kafs",
    "rxrpc_": "rxrpc",
    "ceph_osdc_": "libceph",
    "dlm_": "dlm",
    "rdma_": "rdma_cm",
    "ib_": "ib_core",
    "l2cap_": "bluetooth",
    "hci_": "bluetooth",
    "batadv_": "batman_adv",
    "ip_vs_": "ip_vs",
    "ip_set_": "ip_set",
    "ppp_": "ppp_generic",
    "l2tp_": "l2tp_core",
    "team_": "team",
    "ifb_": "ifb",
    "dummy_": "dummy",
    "packet_": "af_packet",
    "floppy_": "floppy",
    "cdrom_": "cdrom",
    "autofs_": "autofs4",
    "ipmi_": "ipmi_msghandler",
}

START_CODE = frozenset(
    (
        *(
            "start_kernel",
            "populate_rootfs",
            "do_populate_rootfs",
            "unpack_to_rootfs",
            "kernel_init_freeable",
        ),
        *("do_basic_setup", "do_initcalls", "do_initcall_level", "do_pre_smp_initcalls", "prepare_namespace"),
        *("mount_root", "mount_root_generic", "mount_block_root", "parse_early_param", "unknown_bootoption"),
        *("obsolete_checksetup", "setup_arch", "setup_command_line", "x86_64_start_kernel", "init_IRQ"),
        *("x86_64_start_reservations", "memblock_free_all", "init_mount_tree", "wait_for_initramfs"),
        *("set_init_arg", "console_on_rootfs", "name_to_dev_t", "init_rootfs", "early_security_init"),
        *("smp_prepare_cpus", "smp_init", "sched_init", "trap_init", "rcu_init", "fork_init", "cgroup_init"),
    )
)
"""Functions of the kernel's own start (__init), which is over, and their memory given back."""

_START_NAME = re.compile(
    r"(?:\w+_)?(?:init|initcall|setup|exit)\d?(?:_early|_late)?|(?:early|do_early|init|setup)_\w+"
)

ENTRY_CODE = re.compile(
    r"asm_\w+|entry_\w+|exc_\w+|irqentry_\w+|sysvec_\w+|syscall_(?:enter|exit)_\w+|do_syscall_64|do_int80\w*"
    r"|do_fast_syscall_32|native_iret|ret_from_fork\w*|error_(?:entry|return)|paranoid_(?:entry|exit)|xen_\w*iret"
    r"|\w+_thunk\w*|common_interrupt(?:_return)?|swapgs_restore_\w+|noist_\w+|enter_from_user_mode"
    r"|exit_to_user_mode|ct_(?:user|nmi|irq)_\w+|(?:optprobe|kprobe|kretprobe|arch_rethook)_\w+"
    r"|(?:get|opt|arm|disarm|arch_\w+)_kprobe\w*|text_poke_\w+|poke_int3_handler|nmi_(?:enter|exit|handle)\w*"
    r"|notify_die|do_(?:int3|debug|trap|error_trap|nmi)|perf_ftrace_\w+|trace_hardirqs_\w+|lockdep_\w+"
)
"""Code that runs before the kernel can take a breakpoint (.entry.text, noinstr), or of kprobes themselves."""

SYSCALL_PREFIXES = (
    "__x64_sys_",
    "__arm64_sys_",
    "__riscv_sys_",
    "__s390x_sys_",
    "__loongarch_sys_",
    "__se_sys_",
)

RARE_PREFIXES = ("__ia32_sys_", "__ia32_compat_sys_", "__x64_compat_sys_", "__arm64_compat_sys_", "__do_sys_")

PREFIX_OF_ARCH = {
    "x86_64": "__x64_sys_",
    "aarch64": "__arm64_sys_",
    "riscv64": "__riscv_sys_",
    "s390x": "__s390x_sys_",
}

WRAPPERS_SINCE = "4.17"
"""On x86-64; arm64 has them since 4.19 and s390x since 5.0."""

_SYSCALL = re.compile(r"(?:compat_)?(?:sys|SyS|SYSC|stub|C_SYSC)_(\w+)")
_WRAPPER = re.compile(r"__(?:(?:x64|arm64|riscv|s390x?|ia32|x32|se|do)_(?:compat_)?)?sys_(\w+)|ksys_(\w+)")
_NO_SYSCALL = re.compile(
    r"sys_(?:call_table|off_\w+|copyarea|fillrect|imageblit|tz|vendor|mmap_\w+|node_\w+|dmi_\w+|info_\w+|imports?_\w+)"
)

_VARIANT = re.compile(r"\.(?:isra|part|constprop|lto_priv|llvm|localalias|clone)\b[.\w]*")

WELL_KNOWN = (
    # Functions that people hook, to find a misspelt one where the list of symbols is not at hand.
    *(
        "vfs_read",
        "vfs_write",
        "vfs_open",
        "vfs_create",
        "vfs_unlink",
        "vfs_mkdir",
        "vfs_rmdir",
        "vfs_rename",
    ),
    *("vfs_fsync", "vfs_fsync_range", "vfs_statx", "vfs_getattr", "vfs_readv", "vfs_writev", "vfs_symlink"),
    *("do_sys_open", "do_sys_openat2", "do_filp_open", "do_unlinkat", "do_exit", "do_group_exit", "do_mmap"),
    *("do_nanosleep", "kernel_clone", "wake_up_new_task", "try_to_wake_up", "schedule", "handle_mm_fault"),
    *(
        "tcp_connect",
        "tcp_v4_connect",
        "tcp_v6_connect",
        "tcp_sendmsg",
        "tcp_recvmsg",
        "tcp_close",
        "tcp_rcv_established",
    ),
    *("tcp_set_state", "tcp_retransmit_skb", "tcp_v4_rcv", "tcp_cleanup_rbuf", "tcp_ack", "inet_csk_accept"),
    *("inet_listen", "inet_bind", "udp_sendmsg", "udp_recvmsg", "ip_rcv", "ip_output", "ip_local_out"),
    *(
        "__dev_queue_xmit",
        "dev_hard_start_xmit",
        "netif_receive_skb",
        "__netif_receive_skb_core",
        "napi_gro_receive",
    ),
    *("submit_bio", "submit_bio_noacct", "blk_mq_submit_bio", "blk_mq_start_request", "blk_mq_end_request"),
    *(
        "blk_update_request",
        "filemap_read",
        "filemap_fault",
        "generic_file_read_iter",
        "generic_perform_write",
    ),
    *("security_file_open", "security_bprm_check", "security_socket_connect", "cap_capable", "bprm_execve"),
    *("kmem_cache_alloc", "kmem_cache_free", "kfree", "kmalloc", "__kmalloc", "kfree_skb", "consume_skb"),
    *("mutex_lock", "mutex_unlock", "down_read", "up_read", "down_write", "up_write", "ktime_get"),
    *(
        "path_mount",
        "path_openat",
        "lookup_fast",
        "d_lookup",
        "filp_close",
        "fput",
        "pipe_read",
        "pipe_write",
    ),
    *(
        "sock_sendmsg",
        "sock_recvmsg",
        "unix_stream_connect",
        "oom_kill_process",
        "out_of_memory",
        "free_task",
    ),
)


def is_start_code(name: str) -> bool | None:
    """True for functions of the system's start, None for names that look like one, False for others."""
    if name in START_CODE:
        return True
    return None if _START_NAME.fullmatch(name) else False


def is_variant_of(symbol: str, name: str) -> bool:
    """Whether a symbol is what the compiler made of a function: ``NAME.isra.0`` and the like.

    ``NAME.cold`` is a piece of a function that never starts one, and no variant.
    """
    if not symbol.startswith(f"{name}."):
        return False
    rest = symbol[len(name) :]
    return _VARIANT.fullmatch(rest) is not None and ".cold" not in rest


def syscall_of(name: str) -> str:
    """The system call that a name of old is about: ``sys_openat``, ``SyS_openat`` → "openat"; else ""."""
    if _NO_SYSCALL.fullmatch(name):
        return ""
    found = _SYSCALL.fullmatch(name)
    return found[1] if found else ""


def wrapped_syscall(name: str) -> str:
    """The system call of a wrapper's name: ``__x64_sys_openat`` → "openat"; else ""."""
    found = _WRAPPER.fullmatch(name)
    return (found[1] or found[2]) if found else ""


def module_of(name: str) -> str:
    """The module that a function is probably in, by the longest known beginning of its name; "" if none."""
    plain = name.lstrip("_")
    fitting = [prefix for prefix in MODULE_PREFIXES if plain.startswith(prefix)]
    return MODULE_PREFIXES[max(fitting, key=len)] if fitting else ""


def near_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Known names that differ from `name` as by a slip of the hand, nearest first."""
    scored = sorted((slip, one) for one in set(known) if (slip := slip_between(name, one)) is not None)
    return [one for _, one in scored[:most]]


def slip_between(name: str, other: str) -> int | None:
    """How many slips make `other` of `name`; None if they are different words.

    A slip is other case, a missing underscore, or a character more, less, swapped or wrong in a word.  A digit
    for another is none (``tcp_v4_connect``, ``tcp_v6_connect``), and short words take one slip, not two.
    """
    if name == other or not name or not other:
        return None
    if name.casefold() == other.casefold():
        return 0
    if _squeezed(name) == _squeezed(other):
        return 1
    ours, theirs = name.casefold().split("_"), other.casefold().split("_")
    if len(ours) == len(theirs) and sorted(ours) == sorted(theirs):
        return 2
    if _without_doubled_digit(name) == _without_doubled_digit(other):
        return 1
    if len(ours) != len(theirs):
        limit = 1 if min(len(name), len(other)) >= 6 else 0
        distance = edit_distance(_squeezed(name), _squeezed(other), 1)
        return distance + 1 if distance <= limit and _letters_only(name, other) else None
    total = 0
    for our, their in zip(ours, theirs, strict=True):
        if our == their:
            continue
        if not _letters_only(our, their):
            return None
        limit = 2 if min(len(our), len(their)) >= 6 else 1
        if len(our) == len(their) < 4 and sorted(our) != sorted(their):
            return None  # another letter makes another word of three: xfs, vfs, nfs
        distance = edit_distance(our, their, 2)
        if distance > limit or min(len(our), len(their)) < 3:
            return None
        total += distance
    return total if total <= 2 else None


def edit_distance(first: str, second: str, most: int) -> int:
    """Insertions, deletions, changes and swaps of neighbours between two words; `most` + 1 where it is more."""
    if abs(len(first) - len(second)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for index, one in enumerate(first, 1):
        last, row = row, [index]
        for column, two in enumerate(second, 1):
            cost = min(last[column] + 1, row[-1] + 1, last[column - 1] + (one != two))
            swapped = index > 1 and column > 1 and one == second[column - 2] and first[index - 2] == two
            row.append(min(cost, before[column - 2] + 1) if swapped else cost)
        before = last
    return min(row[-1], most + 1)


def _without_doubled_digit(name: str) -> str:
    return re.sub(r"(\d)\1+", r"\1", name)


def _squeezed(name: str) -> str:
    return name.replace("_", "").casefold()


def _letters_only(one: str, two: str) -> bool:
    """Whether the digits of both are the same: then they differ by letters alone."""
    return re.sub(r"\D", "", one) == re.sub(r"\D", "", two)
