/* A probe in C, for examples/test_my_probe.py: which files each process fails to open.
 *
 *     clang -target bpfel -O2 -g -c my_probe.bpf.c -o my_probe.bpf.o && llvm-strip -g my_probe.bpf.o
 */
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*get_current_pid_tgid)(void) = (void *)14;
static long (*probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static long (*ringbuf_output)(void *map, void *data, u64 size, u64 flags) = (void *)130;

struct entry {
    u64 common;
    long number;
    u64 args[6];
};

struct result {
    u64 common;
    long number;
    long returned;
};

struct failure {
    u32 pid;
    int error;
    char path[64];
};

struct {
    int (*type)[1]; /* BPF_MAP_TYPE_HASH */
    int (*max_entries)[1024];
    u64 *key;
    u64 *value;
} opening SEC(".maps");

struct {
    int (*type)[1];
    int (*max_entries)[1024];
    u32 *key;
    u64 *value;
} failed SEC(".maps");

struct {
    int (*type)[27]; /* BPF_MAP_TYPE_RINGBUF */
    int (*max_entries)[65536];
} failures SEC(".maps");

const volatile u32 only_pid = 0;

SEC("tracepoint/syscalls/sys_enter_openat")
int opens(struct entry *context)
{
    u64 task = get_current_pid_tgid();

    if (!only_pid || task >> 32 == only_pid)
        map_update_elem(&opening, &task, &context->args[1], 0);
    return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int opened(struct result *context)
{
    u64 task = get_current_pid_tgid(), one = 1;
    u64 *path = map_lookup_elem(&opening, &task);
    struct failure failure = { .pid = task >> 32 };
    u64 *count;

    if (!path)
        return 0;
    if (context->returned < 0) {
        failure.error = -context->returned;
        probe_read_user_str(failure.path, sizeof(failure.path), (void *)*path);
        ringbuf_output(&failures, &failure, sizeof(failure), 0);
        count = map_lookup_elem(&failed, &failure.pid);
        if (count)
            __sync_fetch_and_add(count, 1);
        else
            map_update_elem(&failed, &failure.pid, &one, 0);
    }
    map_delete_elem(&opening, &task);
    return 0;
}

char licence[] SEC("license") = "GPL";
