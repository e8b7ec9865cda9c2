/* Reports the files that are opened, and how that went: a record when a call returns, by a perf event array.
 *
 * What the call wanted is known where it begins, what became of it where it ends; the map `start` keeps the
 * one for the other.  The constants are set before the object is loaded, and the kernel leaves out what they
 * rule out.  No header of the kernel is needed: records of tracepoints are plain structures, whose layout is in
 * /sys/kernel/tracing/events/syscalls/NAME/format.
 */
#include "opensnoop.bpf.h"

struct enter {			/* syscalls:sys_enter_* */
	u64 common;
	s64 number;
	u64 args[6];
};

struct leave {			/* syscalls:sys_exit_* */
	u64 common;
	s64 number;
	s64 result;
};

struct open_how {		/* linux/openat2.h */
	u64 flags;
	u64 mode;
	u64 resolve;
};

struct call {
	const char *path;
	int flags;
};

struct event {
	u64 when;		/* nanoseconds since boot */
	u32 pid;
	u32 tid;
	u32 uid;
	int ret;		/* the file's descriptor, or minus an errno */
	int flags;
	char comm[16];
	char path[256];
};

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 10240);
	TYPE(key, u32);
	TYPE(value, struct call);
} start SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	NUMBER(key_size, sizeof(u32));
	NUMBER(value_size, sizeof(u32));
} events SEC(".maps");

const volatile u32 targ_pid = 0;	/* a thread, as the kernel calls it */
const volatile u32 targ_tgid = 0;	/* a process, as everybody else calls it */
const volatile u32 targ_uid = -1;
const volatile bool targ_failed = false;

static inline_always bool is_wanted(u64 id)
{
	if (targ_tgid && targ_tgid != id >> 32)
		return false;
	if (targ_pid && targ_pid != (u32)id)
		return false;
	return targ_uid == (u32)-1 || targ_uid == (u32)get_current_uid_gid();
}

static inline_always int entered(const char *path, int flags)
{
	u64 id = get_current_pid_tgid();
	struct call call = { path, flags };
	u32 tid = id;

	if (is_wanted(id))
		map_update_elem(&start, &tid, &call, BPF_ANY);
	return 0;
}

/* A function of its own, whose arguments bring struct event into the object's types. */
static not_inline long send(void *context, struct event *event)
{
	return perf_event_output(context, &events, BPF_F_CURRENT_CPU, event, sizeof(*event));
}

static inline_always int left(struct leave *context)
{
	u64 id = get_current_pid_tgid();
	u32 tid = id;
	struct call *call = map_lookup_elem(&start, &tid);
	struct event event = {};

	if (!call)
		return 0;	/* it began before we did, or is not wanted */
	if (!targ_failed || context->result < 0) {
		event.when = ktime_get_ns();
		event.pid = id >> 32;
		event.tid = tid;
		event.uid = get_current_uid_gid();
		event.ret = context->result;
		event.flags = call->flags;
		get_current_comm(event.comm, sizeof(event.comm));
		probe_read_user_str(event.path, sizeof(event.path), call->path);
		send(context, &event);
	}
	map_delete_elem(&start, &tid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_open")
int enter_open(struct enter *context)
{
	return entered((const char *)context->args[0], context->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter_openat(struct enter *context)
{
	return entered((const char *)context->args[1], context->args[2]);
}

SEC("tracepoint/syscalls/sys_enter_openat2")
int enter_openat2(struct enter *context)
{
	struct open_how how = {};

	probe_read_user(&how, sizeof(how), (const void *)context->args[2]);
	return entered((const char *)context->args[1], how.flags);
}

SEC("tracepoint/syscalls/sys_exit_open")
int exit_open(struct leave *context)
{
	return left(context);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int exit_openat(struct leave *context)
{
	return left(context);
}

SEC("tracepoint/syscalls/sys_exit_openat2")
int exit_openat2(struct leave *context)
{
	return left(context);
}

char LICENSE[] SEC("license") = "GPL";
