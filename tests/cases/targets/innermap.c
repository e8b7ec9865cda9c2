/* Looks up what an array of maps does not have, and says how that went. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The start of union bpf_attr, include/uapi/linux/bpf.h, for the two commands below. */
struct create {
	unsigned int type, key_size, value_size, max_entries, flags, inner_fd;
};

struct lookup {
	unsigned int fd;
	unsigned long long key, value, flags;
};

enum { MAP_CREATE = 0, MAP_LOOKUP_ELEM = 1, ARRAY = 2, ARRAY_OF_MAPS = 12 };

int main(void)
{
	unsigned int key = 0, value = 0;
	struct create inner = { ARRAY, 4, 4, 1, 0, 0 };
	struct create outer = { ARRAY_OF_MAPS, 4, 4, 1, 0, 0 };
	struct lookup lookup = { 0 };

	outer.inner_fd = syscall(SYS_bpf, MAP_CREATE, &inner, sizeof(inner));
	lookup.fd = syscall(SYS_bpf, MAP_CREATE, &outer, sizeof(outer));
	lookup.key = (unsigned long)&key;
	lookup.value = (unsigned long)&value;
	if (syscall(SYS_bpf, MAP_LOOKUP_ELEM, &lookup, sizeof(lookup)) == 0)
		return 1;
	return errno == ENOENT ? 0 : 1;
}
