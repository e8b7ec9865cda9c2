#include "bpf.h"

struct place {
	__u32 pid;
	__u64 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct place);
	__type(value, __u64);
} places SEC(".maps");

SEC("raw_tp/sys_enter")
int look(void *ctx)
{
	struct place place;

	place.address = 7;
	return bpf_map_lookup_elem(&places, &place) != 0;
}

char LICENSE[] SEC("license") = "GPL";
