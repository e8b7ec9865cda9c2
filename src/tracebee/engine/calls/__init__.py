"""The helper functions that programs call, one module a family; results and errnos are as the kernel's.

`CALLS` has those that can be had without a kernel, by their number in the uapi header; `KERNEL_ONLY` says of the
others what they would need.
"""

from __future__ import annotations

from tracebee.btf.core import POISON
from tracebee.engine.calls import control, dynptr, maps, output, reads, stacks, task, text
from tracebee.engine.calls.base import Call
from tracebee.insn.helpers import helper_id

__all__ = ["CALLS", "KERNEL_ONLY", "Call"]

CALLS: dict[int, Call] = {
    helper_id(name): Call(name, make)
    for family in (maps, reads, task, stacks, output, text, control, dynptr)
    for name, make in family.MAKERS.items()
}
CALLS[POISON] = Call("what CO-RE has found no answer to", control.unanswered)

_NEEDS = {
    "a packet or a socket of the kernel": """
        skb_store_bytes l3_csum_replace l4_csum_replace clone_redirect get_cgroup_classid skb_vlan_push
        skb_vlan_pop skb_get_tunnel_key skb_set_tunnel_key redirect get_route_realm skb_load_bytes csum_diff
        skb_get_tunnel_opt skb_set_tunnel_opt skb_change_proto skb_change_type skb_under_cgroup
        get_hash_recalc skb_change_tail skb_pull_data csum_update set_hash_invalid skb_change_head
        xdp_adjust_head get_socket_cookie get_socket_uid set_hash setsockopt skb_adjust_room redirect_map
        sk_redirect_map sock_map_update xdp_adjust_meta getsockopt sock_ops_cb_flags_set msg_redirect_map
        msg_apply_bytes msg_cork_bytes msg_pull_data bind xdp_adjust_tail skb_get_xfrm_state
        skb_load_bytes_relative fib_lookup sock_hash_update msg_redirect_hash sk_redirect_hash lwt_push_encap
        lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action skb_cgroup_id sk_select_reuseport
        skb_ancestor_cgroup_id sk_lookup_tcp sk_lookup_udp sk_release msg_push_data msg_pop_data sk_fullsock
        tcp_sock skb_ecn_set_ce get_listener_sock skc_lookup_tcp tcp_check_syncookie sk_storage_get
        sk_storage_delete tcp_gen_syncookie skb_output tcp_send_ack xdp_output get_netns_cookie sk_assign
        sk_cgroup_id sk_ancestor_cgroup_id csum_level skc_to_tcp6_sock skc_to_tcp_sock
        skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock load_hdr_opt store_hdr_opt
        reserve_hdr_opt skb_cgroup_classid redirect_neigh redirect_peer sock_from_file check_mtu
        skc_to_unix_sock xdp_get_buff_len xdp_load_bytes xdp_store_bytes skb_set_tstamp skc_to_mptcp_sock
        tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 tcp_raw_check_syncookie_ipv4
        tcp_raw_check_syncookie_ipv6""",
    "a counter of the kernel's perf events": """
        perf_event_read perf_event_read_value perf_prog_read_value read_branch_records get_branch_snapshot""",
    "the kernel's own data": """
        current_task_under_cgroup get_current_ancestor_cgroup_id get_local_storage inode_storage_get
        inode_storage_delete task_storage_get task_storage_delete cgrp_storage_get cgrp_storage_delete
        get_task_stack task_pt_regs find_vma copy_from_user_task d_path per_cpu_ptr this_cpu_ptr
        kallsyms_lookup_name btf_find_by_name_kind snprintf_btf kptr_xchg""",
    "a function of the kernel that is being traced": """
        override_return get_func_arg get_func_ret get_func_arg_cnt get_retval set_retval bprm_opts_set
        ima_inode_hash ima_file_hash""",
    "an iterator of the kernel": "seq_printf seq_write seq_printf_btf",
    "a timer of the kernel": "timer_init timer_set_callback timer_start timer_cancel",
    "an infrared receiver": "rc_repeat rc_keydown rc_pointer_rel",
    "a sysctl of the kernel that is being read or written": """
        sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value""",
    "the bpf system call": "sys_bpf sys_close",
    "a ring buffer that the kernel reads": "user_ringbuf_drain",
}

KERNEL_ONLY: dict[str, str] = {name: need for need, names in _NEEDS.items() for name in names.split()}
"""What a helper function that only the kernel can offer would need, by its name without the prefix."""
