#include "bpf.h"

SEC("fentry.s/__x64_sys_getpgid")
int copy(__u64 *ctx)
{
	__u64 word = 0;

	bpf_copy_from_user(&word, sizeof(word), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
