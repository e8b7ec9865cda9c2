#include "bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(max_entries, 64);
	__uint(key_size, 4);
	__uint(value_size, 4);
} samples SEC(".maps");

SEC("raw_tp/sys_enter")
int sample(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	bpf_perf_event_output(ctx, &samples, 0xffffffff, &pid, sizeof(pid));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
