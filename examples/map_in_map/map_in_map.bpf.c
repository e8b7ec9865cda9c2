/* Counts system calls in maps that are inside of maps.
 *
 * `watched` has a map for each process that is to be watched, under its id: user space puts them in and takes them
 * out while the program runs.  `current` has one map, in which all of them are counted together; user space puts
 * another one in its place and then has the first one for itself, with nobody writing to it any more.
 */
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

/* Definitions of maps are types: a number is the length of an array that is pointed to. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) type *name
#define VALUES(type) type *values[]

enum {				/* linux/bpf.h */
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
};

#define BPF_NOEXIST 1

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*get_current_pid_tgid)(void) = (void *)14;

/* What every inner map is like: how often each system call was made, by number. */
struct counts {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 512);
	TYPE(key, u32);
	TYPE(value, u64);
};

struct counts first SEC(".maps");
struct counts second SEC(".maps");

/* It begins with a map in it; what the loader finds at index 0 is a descriptor of `first`. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	VALUES(struct counts);
} current SEC(".maps") = { .values = { &first } };

/* This one is empty at first; the type of its values is the template for what may be put in. */
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	NUMBER(max_entries, 64);
	TYPE(key, u32);
	VALUES(struct counts);
} watched SEC(".maps");

static void add(void *counts, u32 number)
{
	u64 *count = map_lookup_elem(counts, &number), one = 1;

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		map_update_elem(counts, &number, &one, BPF_NOEXIST);
}

struct enter {			/* arguments of the raw tracepoint sys_enter */
	u64 registers;
	u64 number;
};

SEC("raw_tp/sys_enter")
int count(struct enter *context)
{
	u32 process = get_current_pid_tgid() >> 32, here = 0;
	void *counts = map_lookup_elem(&watched, &process);

	if (!counts)
		return 0;
	add(counts, context->number);
	counts = map_lookup_elem(&current, &here);
	if (counts)
		add(counts, context->number);
	return 0;
}

char licence[] SEC("license") = "GPL";
