/* What the test objects need of the uapi header and of libbpf's headers, written down by hand. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define inline_always inline __attribute__((always_inline))
#define not_inline __attribute__((noinline))
#define weak __attribute__((weak))
#define access_index __attribute__((preserve_access_index))

/* Definitions of maps by types. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) type *name

enum {
    HASH = 1, ARRAY = 2, PROG_ARRAY = 3, PERF_EVENT_ARRAY = 4, PERCPU_HASH = 5, PERCPU_ARRAY = 6, LRU_HASH = 9,
    ARRAY_OF_MAPS = 12, HASH_OF_MAPS = 13, QUEUE = 22, RINGBUF = 27,
};

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*ktime_get_ns)(void) = (void *)5;
static long (*trace_printk)(const char *format, u32 size, ...) = (void *)6;
static long (*tail_call)(void *context, void *map, u32 index) = (void *)12;
static u64 (*get_current_pid_tgid)(void) = (void *)14;
static long (*get_current_comm)(void *buffer, u32 size) = (void *)16;
static long (*perf_event_output)(void *context, void *map, u64 flags, void *data, u64 size) = (void *)25;
static u64 (*get_current_task)(void) = (void *)35;
static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
static void *(*ringbuf_reserve)(void *map, u64 size, u64 flags) = (void *)131;
static void (*ringbuf_submit)(void *data, u64 flags) = (void *)132;
static long (*for_each_map_elem)(void *map, void *callback, void *context, u64 flags) = (void *)164;
static long (*loop)(u32 rounds, void *callback, void *context, u64 flags) = (void *)181;
