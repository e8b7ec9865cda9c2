/* Two buffers, two kinds of places that are no tracepoints, variables that change.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c watch.bpf.c -o watch.bpf.o && llvm-strip-14 -g watch.bpf.o
 */
#include "bpf.h"

static u64 (*get_attach_cookie)(void *context) = (void *)174;

struct opened {
    u32 pid;
    u32 count;
    char path[56];
};

struct called {
    u64 cookie;
    s32 pid;
};

struct {
    NUMBER(type, RINGBUF);
    NUMBER(max_entries, 65536);
} openings SEC(".maps");

struct {
    NUMBER(type, PERF_EVENT_ARRAY);
    NUMBER(key_size, 4);
    NUMBER(value_size, 4);
} calls SEC(".maps");

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 1024);
    TYPE(key, u64);
    TYPE(value, u64);
} by_number SEC(".maps");

/* Those of x86-64. */
const volatile u32 wanted = 0;
const volatile s64 openat_number = 257;
const volatile u32 second_argument = 104;
u64 seen = 0;
u64 step = 2;

static not_inline long send_call(void *context, struct called *called)
{
    return perf_event_output(context, &calls, 0xffffffffULL, called, sizeof(*called));
}

static not_inline int send_opened(struct opened *opened, const void *path)
{
    opened->count = ++seen;
    opened->pid = get_current_pid_tgid() >> 32;
    return probe_read_user_str(opened->path, sizeof(opened->path), path);
}

struct arguments {
    u64 registers;
    s64 number;
};

SEC("raw_tp/sys_enter")
int any_call(struct arguments *context)
{
    u64 number = context->number, one = 1, *count;
    const void *path = 0;
    struct opened *opened;

    if (wanted != get_current_pid_tgid() >> 32)
        return 0;
    count = map_lookup_elem(&by_number, &number);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        map_update_elem(&by_number, &number, &one, 0);
    if (number != openat_number)
        return 0;
    probe_read_kernel(&path, sizeof(path), (void *)context->registers + second_argument);
    opened = ringbuf_reserve(&openings, sizeof(*opened), 0);
    if (!opened)
        return 0;
    send_opened(opened, path);
    ringbuf_submit(opened, 0);
    return 0;
}

SEC("uprobe/libc.so.6:setlocale")
int enter_setlocale(void *context)
{
    struct called called = {};

    called.cookie = get_attach_cookie(context);
    called.pid = get_current_pid_tgid() >> 32;
    if (wanted == (u32)called.pid) {
        seen += step;
        send_call(context, &called);
    }
    return 0;
}

SEC("?uprobe")
int elsewhere(void *context)
{
    return enter_setlocale(context);
}

struct packet {
    u32 length;
};

SEC("?socket")
int length_of(struct packet *context)
{
    return context->length;
}

char licence[] SEC("license") = "GPL";
