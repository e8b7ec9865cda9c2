/* One of two files that are linked: what it only declares is in second.bpf.c.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -Wno-ignored-attributes -c first.bpf.c -o first.bpf.o && llvm-strip-14 -g first.bpf.o
 *
 * and the same with bpfeb, for the other byte order, as first-eb.bpf.o.
 */
#include "bpf.h"

struct shared_map {
    NUMBER(type, HASH);
    NUMBER(max_entries, 8);
    TYPE(key, u32);
    TYPE(value, u64);
};

extern struct shared_map counts SEC(".maps");

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 1);
    TYPE(key, u32);
    TYPE(value, u64);
} own SEC(".maps");

struct node;

struct list {
    struct node *head;
    struct list *next;
};

struct asked {
    int number;
    struct list list;
} access_index;

extern const int CONFIG_HZ __attribute__((section(".kconfig")));

extern int twice(int number);
extern int limit;
extern u64 totals[4];
weak int which(void) { return 1; }
weak int fallback(void) { return 10; }

static volatile int secret = 3;
static volatile const int constant = 100;
static not_inline int own_way(int number) { return number + secret + constant; }

/* 2 * 5 + 20 + 108 + 2 + 10, and 7 from the map */
SEC("socket")
int calls_the_other(void *context)
{
    u32 key = 1;
    u64 *value = map_lookup_elem(&counts, &key);

    return twice(5) + limit + own_way(5) + which() + fallback() + (value ? (int)*value : 0);
}

SEC("?raw_tp/first")
int asks(struct asked *asked)
{
    totals[1] += asked->number + CONFIG_HZ;
    return asked->list.next != 0;
}

char licence[] SEC("license") = "GPL";
