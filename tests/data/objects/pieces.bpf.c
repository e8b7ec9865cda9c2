/* One of each kind of thing that an object can have.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c pieces.bpf.c -o pieces.bpf.o && llvm-strip-14 -g pieces.bpf.o
 *
 * and the same with bpfeb, for the other byte order, as pieces-eb.bpf.o.
 */
#include "bpf.h"

struct inner {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 3);
    TYPE(key, u32);
    TYPE(value, u64);
};

struct inner first SEC(".maps");
struct inner second SEC(".maps");

struct {
    NUMBER(type, ARRAY_OF_MAPS);
    NUMBER(max_entries, 4);
    TYPE(key, u32);
    struct inner *values[];
} outer SEC(".maps") = { .values = { [1] = &first, [3] = &second } };

int jumped(void *context);

struct {
    NUMBER(type, PROG_ARRAY);
    NUMBER(max_entries, 2);
    NUMBER(key_size, 4);
    int (*values[])(void *);
} jumps SEC(".maps") = { .values = { [1] = (void *)&jumped } };

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 8);
    NUMBER(map_flags, 1);
    NUMBER(pinning, 1);
    TYPE(key, u32);
    TYPE(value, struct pair { u32 a; u64 b; });
} shared SEC(".maps");

extern const int CONFIG_HZ __attribute__((section(".kconfig")));
extern const _Bool CONFIG_MISSING __attribute__((section(".kconfig"))) weak;
extern const unsigned LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
extern const void untyped_symbol __attribute__((section(".ksyms")));
extern const int typed_symbol __attribute__((section(".ksyms")));
extern int kernel_function(int argument) __attribute__((section(".ksyms")));

const char custom[] SEC(".rodata.custom") = "custom";
u32 more SEC(".data.more") = 9;
u32 zeroed;

static not_inline int deepest(int number)
{
    return number * 3 + more;
}

static not_inline int deeper(int number)
{
    return deepest(number) + deepest(number + 1);
}

static long visit(void *map, u32 *key, u64 *value, u64 *sum)
{
    *sum += *value;
    return 0;
}

static long add(u32 index, u64 *sum)
{
    *sum += deepest(index);
    return 0;
}

SEC("socket")
int sums(void *context)
{
    u64 sum = 0;

    for_each_map_elem(&first, visit, &sum, 0);
    loop(4, add, &sum, 0);
    return sum + deeper(1);
}

SEC("socket")
int looks_inside(void *context)
{
    u32 key = 1, zero = 0;
    void *map = map_lookup_elem(&outer, &key);
    u64 *value;

    if (!map)
        return -1;
    value = map_lookup_elem(map, &zero);
    return value ? *value : -2;
}

SEC("socket")
int jumps_away(void *context)
{
    tail_call(context, &jumps, 1);
    return -1;
}

SEC("socket")
int jumped(void *context)
{
    return 77;
}

SEC("?kprobe/do_nothing+0x4")
int not_loaded(void *context)
{
    return 0;
}

SEC("kretprobe/do_something")
int configured(void *context)
{
    zeroed++;
    if (CONFIG_MISSING)
        return 1;
    return CONFIG_HZ + (LINUX_KERNEL_VERSION >> 16) + custom[1];
}

SEC("uprobe//usr/bin/bash:readline+4")
int from_the_kernel(void *context)
{
    return (u64)&untyped_symbol + typed_symbol + kernel_function(3);
}

char licence[] SEC("license") = "Dual BSD/GPL";
