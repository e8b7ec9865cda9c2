/* The other of two files that are linked; see first.bpf.c. */
#include "bpf.h"

struct shared_map {
    NUMBER(type, HASH);
    NUMBER(max_entries, 8);
    TYPE(key, u32);
    TYPE(value, u64);
};

struct shared_map counts SEC(".maps");

struct node {
    int value;
} access_index;

struct list {
    struct node *head;
    struct list *next;
};

struct asked {
    int number;
    struct list list;
} access_index;

extern const int CONFIG_HZ __attribute__((section(".kconfig")));

u64 totals[4];
int limit = 20;
int which(void) { return 2; }
weak int fallback(void) { return 11; }

static volatile int secret = 4;
static volatile const int constant = 1000;
static not_inline int own_way(int number) { return number + secret + constant; }

not_inline int twice(int number) { return 2 * number; }

SEC("socket")
int stays_here(void *context)
{
    u32 key = 1;
    u64 seven = 7;

    map_update_elem(&counts, &key, &seven, 0);
    return own_way(1) + CONFIG_HZ;
}

SEC("?raw_tp/second")
int asks_too(struct asked *asked)
{
    return asked->list.head->value;
}

char licence[] SEC("license") = "GPL";
