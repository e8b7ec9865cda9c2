/* What the verifier rewrites: helpers, maps, callbacks, variables, kernel functions, tail calls.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c rewritten.bpf.c -o rewritten.bpf.o && llvm-strip-14 -g rewritten.bpf.o
 */
#include "bpf.h"

struct pair {
    u32 first;
    u32 second;
};

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 4);
    TYPE(key, u32);
    TYPE(value, u64);
} numbers SEC(".maps");

struct {
    NUMBER(type, PROG_ARRAY);
    NUMBER(max_entries, 2);
    NUMBER(key_size, 4);
    NUMBER(value_size, 4);
} jumps SEC(".maps");

const volatile struct pair limits[3] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
struct pair seen[3];
u64 total;

static long visit(void *map, u32 *key, u64 *value, u64 *sum)
{
    *sum += *value;
    return 0;
}

static long add(u32 index, u64 *sum)
{
    *sum += index;
    return 0;
}

static not_inline u64 largest(u64 a, u64 b)
{
    return a > b ? a : b + limits[1].second;
}

SEC("socket")
int packets(void *context)
{
    u64 sum = 0;

    for_each_map_elem(&numbers, visit, &sum, 0);
    loop(4, add, &sum, 0);
    seen[2].second = sum;
    __sync_fetch_and_add(&total, sum);
    sum = largest(sum, total);
    tail_call(context, &jumps, 1);
    return sum;
}

extern void bpf_rcu_read_lock(void) __attribute__((section(".ksyms")));
extern void bpf_rcu_read_unlock(void) __attribute__((section(".ksyms")));

SEC("tp_btf/sys_enter")
int locked(u64 *context)
{
    u64 sum = 0, *value;
    u32 key = 2;

    bpf_rcu_read_lock();
    value = map_lookup_elem(&numbers, &key);
    if (value)
        sum = *value;
    bpf_rcu_read_unlock();
    return sum;
}

char licence[] SEC("license") = "GPL";
