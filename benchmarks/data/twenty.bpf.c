/* Twenty programs, four maps and some constants: what benchmarks/objects.py loads.
 *
 *     clang-14 -target bpfel -O2 -g -I../../tests/data/objects -c twenty.bpf.c -o twenty.bpf.o && llvm-strip-14 -g twenty.bpf.o
 *
 * and with -DCORE, which has the programs read the kernel's structures by CO-RE, as twenty-core.bpf.o.
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

struct call {
    u64 when;
    u64 args[3];
};

struct event {
    u64 when;
    u64 took;
    u32 pid;
    u32 parent;
    s64 result;
    u64 args[3];
    char comm[16];
};

#ifdef CORE
struct task_struct {
    int tgid;
    struct task_struct *real_parent;
} access_index;
#endif

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 10240);
    TYPE(key, u64);
    TYPE(value, struct call);
} start SEC(".maps");

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 10240);
    TYPE(key, u32);
    TYPE(value, u64);
} counts SEC(".maps");

struct {
    NUMBER(type, PERCPU_ARRAY);
    NUMBER(max_entries, 64);
    TYPE(key, u32);
    TYPE(value, u64);
} slots SEC(".maps");

struct {
    NUMBER(type, RINGBUF);
    NUMBER(max_entries, 262144);
} events SEC(".maps");

const volatile u32 wanted_pid = 0;
const volatile u64 least = 0;
u64 lost = 0;

static inline_always int entered(struct enter *context)
{
    u64 id = get_current_pid_tgid();
    struct call call = { ktime_get_ns(), { context->args[0], context->args[1], context->args[2] } };

    if (wanted_pid && wanted_pid != id >> 32)
        return 0;
    map_update_elem(&start, &id, &call, 0);
    return 0;
}

static inline_always int left(struct leave *context)
{
    u64 id = get_current_pid_tgid(), now = ktime_get_ns(), one = 1, *count;
    struct call *call = map_lookup_elem(&start, &id);
    u32 pid = id >> 32, slot = 0;
    struct event *event;

    if (!call)
        return 0;
    count = map_lookup_elem(&counts, &pid);
    if (count)
        __sync_fetch_and_add(count, 1);
    else
        map_update_elem(&counts, &pid, &one, 0);
    for (u64 took = now - call->when; took && slot < 63; took >>= 1)
        slot++;
    count = map_lookup_elem(&slots, &slot);
    if (count)
        *count += 1;
    if (now - call->when >= least) {
        event = ringbuf_reserve(&events, sizeof(*event), 0);
        if (event) {
            event->when = call->when;
            event->took = now - call->when;
            event->pid = pid;
            event->parent = 0;
#ifdef CORE
            struct task_struct *task = (void *)get_current_task(), *parent = 0;

            probe_read_kernel(&parent, sizeof(parent), &task->real_parent);
            probe_read_kernel(&event->parent, sizeof(event->parent), &parent->tgid);
#endif
            event->result = context->result;
            event->args[0] = call->args[0];
            event->args[1] = call->args[1];
            event->args[2] = call->args[2];
            get_current_comm(event->comm, sizeof(event->comm));
            ringbuf_submit(event, 0);
        } else {
            lost++;
        }
    }
    map_delete_elem(&start, &id);
    return 0;
}

#define PAIR(call)                                                                                                  \
    SEC("tracepoint/syscalls/sys_enter_" #call) int enter_##call(struct enter *context) { return entered(context); } \
    SEC("tracepoint/syscalls/sys_exit_" #call) int exit_##call(struct leave *context) { return left(context); }

PAIR(openat)
PAIR(readv)
PAIR(read)
PAIR(write)
PAIR(lseek)
PAIR(ioctl)
PAIR(mmap)
PAIR(writev)
PAIR(connect)
PAIR(accept4)

char licence[] SEC("license") = "GPL";
