"""What each helper function is for, in a line of our own: the name, then the sentence."""

from __future__ import annotations

from functools import cache

_TEXT = """
map_lookup_elem The address of the value that a key has in a map, or NULL.
map_update_elem Sets the value of a key in a map; flags say whether the key may, must or must not exist.
map_delete_elem Removes a key from a map.
probe_read Copies bytes from any address, without saying whose; the two newer ones do.
ktime_get_ns Nanoseconds since boot, not counting suspended time.
trace_printk Writes up to three values through a format to the trace pipe.
get_prandom_u32 A pseudo-random number.
get_smp_processor_id The number of the CPU that the program runs on.
skb_store_bytes Writes bytes into a packet, mending its checksum if asked to.
l3_csum_replace Mends the checksum of the network header after a change.
l4_csum_replace Mends the checksum of the transport header after a change.
tail_call Continues in another program, taken from a program array, and does not come back.
clone_redirect Sends a copy of the packet to another network device.
get_current_pid_tgid Process id in the upper half, thread id in the lower.
get_current_uid_gid Group id in the upper half, user id in the lower.
get_current_comm Copies the command name of the current thread.
get_cgroup_classid The net_cls class of the packet's sender.
skb_vlan_push Puts a VLAN tag on the packet.
skb_vlan_pop Takes the VLAN tag off the packet.
skb_get_tunnel_key Reads the metadata of the tunnel that the packet came through.
skb_set_tunnel_key Sets the metadata of the tunnel that the packet will take.
perf_event_read Reads a hardware counter from a perf event array; errors look like counts.
redirect Sends the packet to another network device once the program returns.
get_route_realm The realm of the packet's route.
perf_event_output Writes a record to the perf buffer of a CPU.
skb_load_bytes Copies bytes out of a packet.
get_stackid Stores the call stack in a stack trace map and returns its id.
csum_diff The difference between the checksums of two buffers.
skb_get_tunnel_opt Reads the options of the tunnel that the packet came through.
skb_set_tunnel_opt Sets the options of the tunnel that the packet will take.
skb_change_proto Turns an IPv4 packet into an IPv6 one, or back, leaving the headers to be filled.
skb_change_type Changes whom the packet is said to be for.
skb_under_cgroup Whether the packet's socket is in a cgroup of an array, or below it.
get_hash_recalc The hash of the packet's flow, computed if there is none yet.
get_current_task The address of the current task_struct, as a number.
probe_write_user Writes to the memory of the current process; for experiments only.
current_task_under_cgroup Whether the current thread is in a cgroup of an array, or below it.
skb_change_tail Cuts the packet, or makes it longer, at its end.
skb_pull_data Makes the first bytes of the packet directly readable.
csum_update Adds to the checksum of a packet that the hardware has summed up.
set_hash_invalid Has the hash of the packet's flow computed anew.
get_numa_node_id The memory node of the CPU that the program runs on.
skb_change_head Makes room before the start of the packet.
xdp_adjust_head Moves the start of the packet.
probe_read_str Copies a string from any address, without saying whose; the two newer ones do.
get_socket_cookie A number that no other socket has.
get_socket_uid The user who owns the packet's socket.
set_hash Sets the hash of the packet's flow.
setsockopt Sets an option of a socket, like setsockopt(2).
skb_adjust_room Makes room, or removes it, behind the link or the network header.
redirect_map Sends the packet where an entry of a map of devices, CPUs or sockets says.
sk_redirect_map Hands the packet to a socket of a socket map.
sock_map_update Puts the socket of the context into a socket map.
xdp_adjust_meta Moves the start of the metadata before the packet.
perf_event_read_value Reads a hardware counter, with the time that it was enabled and running.
perf_prog_read_value Reads the counter whose overflow runs the program.
getsockopt Reads an option of a socket, like getsockopt(2).
override_return Has the probed kernel function return a value without being run.
sock_ops_cb_flags_set Chooses the events for which the program is called about this connection.
msg_redirect_map Hands the message to a socket of a socket map.
msg_apply_bytes Lets the verdict of this run hold for so many bytes of the stream.
msg_cork_bytes Has the program wait until so many bytes are there.
msg_pull_data Makes a range of the message directly accessible.
bind Binds the socket of the context to an address before it connects.
xdp_adjust_tail Moves the end of the packet.
skb_get_xfrm_state Reads the state of an IPsec transformation of the packet.
get_stack Copies the call stack as addresses or build ids.
skb_load_bytes_relative Copies bytes out of a packet, counted from one of its headers.
fib_lookup Looks up a route, and with it the neighbour's addresses.
sock_hash_update Puts the socket of the context into a socket hash.
msg_redirect_hash Hands the message to a socket of a socket hash.
sk_redirect_hash Hands the packet to a socket of a socket hash.
lwt_push_encap Wraps the packet into another header of a light-weight tunnel.
lwt_seg6_store_bytes Changes those bytes of a segment routing header that may be changed.
lwt_seg6_adjust_srh Makes the options of a segment routing header longer or shorter.
lwt_seg6_action Applies a segment routing action to the packet.
rc_repeat Reports that the last key of a remote control is still pressed.
rc_keydown Reports a key of a remote control as pressed.
skb_cgroup_id The cgroup of the packet's socket.
get_current_cgroup_id The cgroup of the current thread.
get_local_storage The address of the storage that belongs to the program's cgroup.
sk_select_reuseport Chooses the socket of a reuseport group that gets the packet.
skb_ancestor_cgroup_id The ancestor, at a level, of the cgroup of the packet's socket.
sk_lookup_tcp Finds a TCP socket by its addresses; it has to be released.
sk_lookup_udp Finds a UDP socket by its addresses; it has to be released.
sk_release Gives back a socket that a lookup has found.
map_push_elem Adds a value to a queue, stack or Bloom filter.
map_pop_elem Takes a value out of a queue or stack.
map_peek_elem Reads the next value of a queue or stack and leaves it, or asks a Bloom filter for one.
msg_push_data Inserts bytes into a message.
msg_pop_data Removes bytes from a message.
rc_pointer_rel Reports that the pointer of a remote control has moved.
spin_lock Takes a lock that lies in a map's value.
spin_unlock Gives a lock back.
sk_fullsock The full socket for one of a smaller kind, or NULL.
tcp_sock The TCP part of a socket, or NULL.
skb_ecn_set_ce Marks the packet as having met congestion, if it can carry that.
get_listener_sock The listening socket that a connection came from, or NULL.
skc_lookup_tcp Finds a TCP socket by its addresses, also one that is not yet or no longer connected.
tcp_check_syncookie Whether an ACK carries a valid SYN cookie for a listening socket.
sysctl_get_name Copies the name of the sysctl being accessed.
sysctl_get_current_value Copies the value that the sysctl has.
sysctl_get_new_value Copies the value that is being written to the sysctl.
sysctl_set_new_value Replaces the value that is being written to the sysctl.
strtol Reads a signed number from text and returns how much text it took.
strtoul Reads an unsigned number from text and returns how much text it took.
sk_storage_get The address of a map's value for a socket; made if asked to.
sk_storage_delete Removes a map's value for a socket.
send_signal Sends a signal to the current process.
tcp_gen_syncookie Makes a SYN cookie for a listening socket.
skb_output Writes a record, and bytes of a packet, to a perf buffer, from a tracing program.
probe_read_user Copies bytes from the memory of the current process.
probe_read_kernel Copies bytes from kernel memory.
probe_read_user_str Copies a string from the memory of the current process; its length counts the NUL.
probe_read_kernel_str Copies a string from kernel memory; its length counts the NUL.
tcp_send_ack Sends a TCP acknowledgement from a congestion control.
send_signal_thread Sends a signal to the current thread.
jiffies64 The number of timer ticks.
read_branch_records Copies the branches that a perf sample recorded.
get_ns_current_pid_tgid Process and thread id as a process id namespace sees them.
xdp_output Writes a record, and bytes of a packet, to a perf buffer, from a program that traces XDP.
get_netns_cookie A number that no other network namespace has.
get_current_ancestor_cgroup_id The ancestor, at a level, of the cgroup of the current thread.
sk_assign Chooses the socket that gets the packet.
ktime_get_boot_ns Nanoseconds since boot, counting suspended time.
seq_printf Writes values through a format to the output of an iterator.
seq_write Writes bytes to the output of an iterator.
sk_cgroup_id The cgroup of a socket.
sk_ancestor_cgroup_id The ancestor, at a level, of the cgroup of a socket.
ringbuf_output Copies a record into a ring buffer.
ringbuf_reserve Room for a record in a ring buffer, or NULL; it has to be submitted or discarded.
ringbuf_submit Gives a reserved record to the reader.
ringbuf_discard Has the reader skip a reserved record.
ringbuf_query A ring buffer's fill level, size or position.
csum_level Says how many of the packet's headers have a verified checksum.
skc_to_tcp6_sock A socket as a tcp6_sock, or NULL if it is none.
skc_to_tcp_sock A socket as a tcp_sock, or NULL if it is none.
skc_to_tcp_timewait_sock A socket as a tcp_timewait_sock, or NULL if it is none.
skc_to_tcp_request_sock A socket as a tcp_request_sock, or NULL if it is none.
skc_to_udp6_sock A socket as a udp6_sock, or NULL if it is none.
get_task_stack Copies the call stack of a task.
load_hdr_opt Finds and copies an option of a TCP header.
store_hdr_opt Adds an option to the TCP header being written.
reserve_hdr_opt Reserves room for options in the TCP header to be written.
inode_storage_get The address of a map's value for an inode; made if asked to.
inode_storage_delete Removes a map's value for an inode.
d_path Copies the full path of a struct path.
copy_from_user Copies from the memory of the current process and may sleep for it.
snprintf_btf Writes a kernel value as text, by its BTF type, into a buffer.
seq_printf_btf Writes a kernel value as text, by its BTF type, to the output of an iterator.
skb_cgroup_classid The net_cls class of the packet's socket, found by the packet alone.
redirect_neigh Sends the packet to another network device, addressed to its neighbour there.
per_cpu_ptr The address of a per-CPU variable on a CPU, or NULL if there is no such CPU.
this_cpu_ptr The address of a per-CPU variable on this CPU.
redirect_peer Sends the packet straight into the network namespace at the other end of a device.
task_storage_get The address of a map's value for a task; made if asked to.
task_storage_delete Removes a map's value for a task.
get_current_task_btf The current task_struct, as a pointer that may be followed.
bprm_opts_set Sets options of the program that is about to be executed.
ktime_get_coarse_ns Nanoseconds since boot as of the last timer tick.
ima_inode_hash Copies the hash that the integrity subsystem keeps of an inode.
sock_from_file The socket of a file, or NULL if it is none.
check_mtu Whether the packet fits the MTU of a device.
for_each_map_elem Calls a function of the program for each entry of a map.
snprintf Writes values through a format into a buffer.
sys_bpf The bpf system call, for programs of type SYSCALL.
btf_find_by_name_kind The id of a kernel type by name and kind.
sys_close Closes a descriptor, for programs of type SYSCALL.
timer_init Prepares a timer that lies in a map's value.
timer_set_callback Sets the function of the program that a timer calls.
timer_start Has a timer fire after so many nanoseconds.
timer_cancel Stops a timer and waits for its function to end.
get_func_ip The address of the function that is being traced.
get_attach_cookie The number that was given when the program was attached.
task_pt_regs The user registers of a task.
get_branch_snapshot Copies the last branches that the CPU recorded.
trace_vprintk Writes values through a format to the trace pipe, from an array of them.
skc_to_unix_sock A socket as a unix_sock, or NULL if it is none.
kallsyms_lookup_name The address of a kernel symbol by name.
find_vma Calls a function of the program with the memory area that contains an address.
loop Calls a function of the program so many times, or until it says stop.
strncmp Compares a buffer with a constant string.
get_func_arg Reads an argument of the function that is being traced.
get_func_ret Reads the result of the function that is being traced.
get_func_arg_cnt The number of arguments of the function that is being traced.
get_retval The result that the system call, or the hook, is going to have.
set_retval Sets the result that the system call, or the hook, is going to have.
xdp_get_buff_len The length of the whole packet, all its fragments counted.
xdp_load_bytes Copies bytes out of a packet, across fragments.
xdp_store_bytes Writes bytes into a packet, across fragments.
copy_from_user_task Copies from the memory of a task and may sleep for it.
skb_set_tstamp Sets the timestamp of the packet and which clock it is of.
ima_file_hash Has the integrity subsystem compute the hash of a file, and copies it.
kptr_xchg Puts a kernel pointer into a map's value and returns the one that was there.
map_lookup_percpu_elem The address of the value that a key has in a per-CPU map on a CPU, or NULL.
skc_to_mptcp_sock A socket as an mptcp_sock, or NULL if it is none.
dynptr_from_mem Makes a dynptr to memory in a map's value.
ringbuf_reserve_dynptr Reserves a record of a size that is known at run time only.
ringbuf_submit_dynptr Gives a record reserved as a dynptr to the reader.
ringbuf_discard_dynptr Has the reader skip a record reserved as a dynptr.
dynptr_read Copies bytes from behind a dynptr.
dynptr_write Copies bytes behind a dynptr.
dynptr_data The address of a slice behind a dynptr, or NULL.
tcp_raw_gen_syncookie_ipv4 Makes a SYN cookie from IPv4 and TCP headers alone.
tcp_raw_gen_syncookie_ipv6 Makes a SYN cookie from IPv6 and TCP headers alone.
tcp_raw_check_syncookie_ipv4 Whether IPv4 and TCP headers carry a valid SYN cookie.
tcp_raw_check_syncookie_ipv6 Whether IPv6 and TCP headers carry a valid SYN cookie.
ktime_get_tai_ns Nanoseconds of the atomic-time clock.
user_ringbuf_drain Calls a function of the program for each record that user space has written.
cgrp_storage_get The address of a map's value for a cgroup; made if asked to.
cgrp_storage_delete Removes a map's value for a cgroup.
"""


def summary(short: str) -> str:
    """What the helper is for; empty if nobody has written it down yet."""
    return _summaries().get(short, "")


@cache
def _summaries() -> dict[str, str]:
    lines = [line.partition(" ") for line in _TEXT.strip().splitlines()]
    return {name: text for name, _, text in lines}
