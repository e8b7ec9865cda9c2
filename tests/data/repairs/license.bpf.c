#include "bpf.h"

SEC("raw_tp/sys_enter")
int peek(__u64 *ctx)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)ctx[0]);
	return word != 0;
}

char LICENSE[] SEC("license") = "Proprietary";
