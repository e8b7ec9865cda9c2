/* What opensnoop.bpf.c needs of the uapi header <linux/bpf.h>, written down by hand; with libbpf's headers
 * installed it would be <linux/bpf.h> and <bpf/bpf_helpers.h>.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;
typedef _Bool bool;

#define false 0
#define true 1

#define SEC(name) __attribute__((section(name), used))
#define inline_always inline __attribute__((always_inline))
#define not_inline __attribute__((noinline))

/* Definitions of maps are types: a number is the length of an array that is pointed to. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) type *name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
};

#define BPF_ANY 0
#define BPF_F_CURRENT_CPU 0xffffffffULL

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*ktime_get_ns)(void) = (void *)5;
static u64 (*get_current_pid_tgid)(void) = (void *)14;
static u64 (*get_current_uid_gid)(void) = (void *)15;
static long (*get_current_comm)(void *buffer, u32 size) = (void *)16;
static long (*perf_event_output)(void *context, void *map, u64 flags, void *data, u64 size) = (void *)25;
static long (*probe_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*probe_read_user_str)(void *to, u32 size, const void *from) = (void *)114;
