/* Maps as they were defined before there was BTF, and no debug information at all.
 *
 *     clang-14 -target bpfel -O2 -Wall -Wno-unused -c legacy.bpf.c -o legacy.bpf.o
 */
#include "bpf.h"

struct map {
    u32 type, key_size, value_size, max_entries, flags;
};

struct map counts SEC("maps") = { HASH, 4, 8, 16, 1 };
struct map samples SEC("maps") = { PERF_EVENT_ARRAY, 4, 4, 0, 0 };

SEC("kprobe/do_something")
int probe(void *context)
{
    u32 key = 1;
    u64 one = 1, data = 0x1122334455667788;

    map_update_elem(&counts, &key, &one, 0);
    perf_event_output(context, &samples, 0xffffffff, &data, sizeof(data));
    return 0;
}

u32 made_for SEC("version") = 0;
char licence[] SEC("license") = "GPL";
