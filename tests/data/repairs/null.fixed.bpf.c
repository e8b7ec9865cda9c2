#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

SEC("raw_tp/sys_enter")
int count(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *seen = bpf_map_lookup_elem(&calls, &pid);

	if (!seen)
		return 0;
	*seen += 1;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
