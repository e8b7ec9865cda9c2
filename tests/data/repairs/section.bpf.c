#include "bpf.h"

SEC("lsm/bprm_committed_creds")
int copy(__u64 *ctx)
{
	__u64 word = 0;

	bpf_copy_from_user(&word, sizeof(word), 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
