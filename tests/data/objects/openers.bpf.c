/* Counts and reports openat by process: maps by types, constants, globals, a ring buffer, calls between functions.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c openers.bpf.c -o openers.bpf.o && llvm-strip-14 -g openers.bpf.o
 */
#include "bpf.h"

struct enter {
    u64 common;
    s64 number;
    u64 args[6];
};

struct leave {
    u64 common;
    s64 number;
    s64 result;
};

struct event {
    u32 pid;
    u32 length;
    char comm[16];
    char path[64];
};

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 128);
    TYPE(key, u32);
    TYPE(value, u64);
} opens SEC(".maps");

struct {
    NUMBER(type, RINGBUF);
    NUMBER(max_entries, 65536);
} events SEC(".maps");

struct {
    NUMBER(type, PERCPU_ARRAY);
    NUMBER(max_entries, 2);
    NUMBER(key_size, 4);
    NUMBER(value_size, 8);
} results SEC(".maps");

const volatile u32 wanted_pid = 0;
const volatile char greeting[8] = "hello";
u64 calls = 0;
u64 largest = 5;
static volatile u64 hidden = 7;

static not_inline void count(u32 pid)
{
    u64 one = 1, *value = map_lookup_elem(&opens, &pid);

    if (value)
        __sync_fetch_and_add(value, 1);
    else
        map_update_elem(&opens, &pid, &one, 0);
}

not_inline int is_wanted(u32 pid)
{
    return wanted_pid == 0 || pid == wanted_pid;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct enter *context)
{
    u32 pid = get_current_pid_tgid() >> 32;
    struct event *event;
    long length;

    calls++;
    if (!is_wanted(pid))
        return 0;
    count(pid);
    event = ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event)
        return 0;
    event->pid = pid;
    get_current_comm(event->comm, sizeof(event->comm));
    length = probe_read_user_str(event->path, sizeof(event->path), (void *)context->args[1]);
    event->length = length < 0 ? 0 : length;
    if (length > 0 && length > largest)
        largest = length;
    ringbuf_submit(event, 0);
    return 1;
}

SEC("tp/syscalls/sys_exit_openat")
int exit_openat(struct leave *context)
{
    u32 key = context->result < 0;
    u64 *value = map_lookup_elem(&results, &key);

    hidden++;
    if (value)
        *value += 1;
    trace_printk((const char *)greeting, sizeof(greeting));
    count(0);
    return 0;
}

char licence[] SEC("license") = "GPL";
