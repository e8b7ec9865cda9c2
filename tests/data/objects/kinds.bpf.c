/* A program of every kind, each of which counts its runs in its own entry; those of tracing count one process only.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c kinds.bpf.c -o kinds.bpf.o && llvm-strip-14 -g kinds.bpf.o
 */
#include "bpf.h"

enum { SOCKMAP = 15 };

enum place {
    TP, RAW_TP, TP_BTF, KPROBE, KRETPROBE, KPROBE_MULTI, KRETPROBE_MULTI, KPROBE_SESSION, KSYSCALL, KRETSYSCALL,
    UPROBE, URETPROBE, UPROBE_OFFSET, UPROBE_MULTI, URETPROBE_MULTI, UPROBE_SESSION, USDT, FENTRY, FEXIT, FMOD_RET,
    LSM, LSM_CGROUP, ITER_TASK, ITER_MAP, ITER_CGROUP, PERF_EVENT, ON_REQUEST, SOCKET, REUSEPORT, XDP_IN, XDP_FRAGS,
    TC_PLAIN, TC_INGRESS, TCX_EGRESS, NETFILTER, DISSECTOR, SK_LOOKUP, SK_SKB_PARSER, SK_SKB_VERDICT, SK_MSG,
    SOCKOPS, CG_INGRESS, CG_EGRESS, CG_SKB, CG_SOCK, CG_RELEASE, CG_POST_BIND, CG_BIND, CG_CONNECT, CG_SENDMSG,
    CG_GETNAME, CG_SYSCTL, CG_GETSOCKOPT, CG_SETSOCKOPT, CG_DEVICE, CHANGED, NETKIT, CG_UNIX, PLACES,
};

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, PLACES);
    TYPE(key, u32);
    TYPE(value, u64);
} runs SEC(".maps");

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 16);
    TYPE(key, u32);
    TYPE(value, u32);
} elements SEC(".maps");

struct {
    NUMBER(type, SOCKMAP);
    NUMBER(max_entries, 4);
    TYPE(key, u32);
    TYPE(value, u32);
} sockets SEC(".maps");

u32 target = 0; /* the process that counts */
u64 argument = 0;

static inline_always void count(u32 place)
{
    u64 *value = map_lookup_elem(&runs, &place);

    if (value)
        __sync_fetch_and_add(value, 1);
}

static inline_always void count_mine(u32 place)
{
    if (get_current_pid_tgid() >> 32 == target)
        count(place);
}

#define MINE(section, name, place) SEC(section) int on_##name(void *context) { count_mine(place); return 0; }
#define ANY(section, name, place, result) SEC(section) int on_##name(void *context) { count(place); return result; }

MINE("tracepoint/syscalls/sys_enter_getppid", tp, TP)
MINE("raw_tp/sys_enter", raw_tp, RAW_TP)
MINE("tp_btf/sys_enter", tp_btf, TP_BTF)
MINE("kprobe/vfs_read", kprobe, KPROBE)
MINE("kretprobe/vfs_read", kretprobe, KRETPROBE)
MINE("kprobe.multi/vfs_rea?", kprobe_multi, KPROBE_MULTI)
MINE("kretprobe.multi/vfs_rea?", kretprobe_multi, KRETPROBE_MULTI)
MINE("kprobe.session/vfs_rea?", kprobe_session, KPROBE_SESSION)
MINE("ksyscall/getppid", ksyscall, KSYSCALL)
MINE("kretsyscall/getppid", kretsyscall, KRETSYSCALL)
MINE("uprobe/libc.so.6:getppid", uprobe, UPROBE)
MINE("uretprobe/libc.so.6:getppid", uretprobe, URETPROBE)
MINE("uprobe", uprobe_offset, UPROBE_OFFSET)
MINE("uprobe.multi/libc.so.6:getppi?", uprobe_multi, UPROBE_MULTI)
MINE("uretprobe.multi/libc.so.6:getppi?", uretprobe_multi, URETPROBE_MULTI)
MINE("uprobe.session/libc.so.6:getppid", uprobe_session, UPROBE_SESSION)
MINE("fentry/vfs_read", fentry, FENTRY)
MINE("fexit/vfs_read", fexit, FEXIT)
MINE("fmod_ret/security_file_open", fmod_ret, FMOD_RET)
MINE("lsm/file_open", lsm, LSM)
ANY("lsm_cgroup/socket_create", lsm_cgroup, LSM_CGROUP, 1)
ANY("iter/task", iter_task, ITER_TASK, 0)
ANY("iter/cgroup", iter_cgroup, ITER_CGROUP, 0)
ANY("perf_event", perf_event, PERF_EVENT, 0)
ANY("syscall", request, ON_REQUEST, 7)

struct bpf_iter__bpf_map_elem {
    void *meta, *map, *key, *value;
};

SEC("iter/bpf_map_elem") int on_iter_map(struct bpf_iter__bpf_map_elem *context)
{
    if (context->value)
        count(ITER_MAP);
    return 0;
}

ANY("socket", socket, SOCKET, 4)
ANY("sk_reuseport", sk_reuseport, REUSEPORT, 1)
ANY("xdp", xdp, XDP_IN, 2)
ANY("xdp.frags", xdp_frags, XDP_FRAGS, 2)
ANY("tc", tc, TC_PLAIN, 0)
ANY("tc/ingress", tc_ingress, TC_INGRESS, 0)
ANY("tcx/egress", tcx_egress, TCX_EGRESS, 0)
ANY("netkit/primary", netkit, NETKIT, 0)
ANY("netfilter", netfilter, NETFILTER, 1)
ANY("flow_dissector", flow_dissector, DISSECTOR, 0)
ANY("sk_lookup", sk_lookup, SK_LOOKUP, 1)
ANY("sk_skb/stream_verdict", sk_skb_verdict, SK_SKB_VERDICT, 1)
ANY("sk_msg", sk_msg, SK_MSG, 1)
ANY("sockops", sockops, SOCKOPS, 1)
ANY("cgroup_skb/ingress", cg_ingress, CG_INGRESS, 1)
ANY("cgroup_skb/egress", cg_egress, CG_EGRESS, 1)
ANY("cgroup/skb", cg_skb, CG_SKB, 1)
ANY("cgroup/sock_create", cg_sock, CG_SOCK, 1)
ANY("cgroup/sock_release", cg_release, CG_RELEASE, 1)
ANY("cgroup/post_bind4", cg_post_bind, CG_POST_BIND, 1)
ANY("cgroup/bind4", cg_bind, CG_BIND, 1)
ANY("cgroup/connect4", cg_connect, CG_CONNECT, 1)
ANY("cgroup/connect_unix", cg_unix, CG_UNIX, 1)
ANY("cgroup/sendmsg4", cg_sendmsg, CG_SENDMSG, 1)
ANY("cgroup/getsockname4", cg_getname, CG_GETNAME, 1)
ANY("cgroup/sysctl", cg_sysctl, CG_SYSCTL, 1)
ANY("cgroup/getsockopt", cg_getsockopt, CG_GETSOCKOPT, 1)
ANY("cgroup/setsockopt", cg_setsockopt, CG_SETSOCKOPT, 1)
ANY("cgroup/dev", cg_device, CG_DEVICE, 1)

/* How much of the data is a message: all of it. */
struct __sk_buff {
    u32 len;
};

SEC("sk_skb/stream_parser") int on_sk_skb_parser(struct __sk_buff *skb)
{
    count(SK_SKB_PARSER);
    return skb->len;
}

/* A function that another program can be put in the place of. */
int weak not_inline verdict(int value)
{
    return value + 1;
}

SEC("tc") int asks_verdict(void *context)
{
    return verdict(40);
}

SEC("freplace/verdict") int on_freplace(int value)
{
    count(CHANGED);
    return 7;
}

SEC("struct_ops/init") int on_struct_ops(void *context)
{
    return 0;
}

/* What libbpf's usdt.bpf.h has for the arguments of static probes, in the layout of libbpf 1.0. */
struct __bpf_usdt_arg_spec {
    u64 val_off;
    enum __bpf_usdt_arg_type { BPF_USDT_ARG_CONST, BPF_USDT_ARG_REG, BPF_USDT_ARG_REG_DEREF } arg_type;
    short reg_off;
    _Bool arg_signed;
    char arg_bitshift;
};

struct __bpf_usdt_spec {
    struct __bpf_usdt_arg_spec args[12];
    u64 usdt_cookie;
    short arg_cnt;
};

struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 256);
    TYPE(key, int);
    TYPE(value, struct __bpf_usdt_spec);
} __bpf_usdt_specs SEC(".maps");

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 1024);
    TYPE(key, long);
    TYPE(value, u32);
} __bpf_usdt_ip_to_spec_id SEC(".maps");

static u64 (*get_attach_cookie)(void *context) = (void *)174;

extern const _Bool LINUX_HAS_BPF_COOKIE __attribute__((section(".kconfig")));

#ifdef __BPF__
struct pt_regs {
    u64 before[16], ip;
};
#endif

/* The first argument of a static probe that has two: the static probe of probed.so. */
SEC("usdt") int on_usdt(struct pt_regs *context)
{
    struct __bpf_usdt_arg_spec *first;
    struct __bpf_usdt_spec *spec;
    u64 address = 0, value = 0;
    u32 *id, number = 0;

    if (get_current_pid_tgid() >> 32 != target)
        return 0;
    if (LINUX_HAS_BPF_COOKIE) {
        number = get_attach_cookie(context);
    } else {
        probe_read_kernel(&address, sizeof(address), &context->ip);
        id = map_lookup_elem(&__bpf_usdt_ip_to_spec_id, &address);
        if (!id)
            return 0;
        number = *id;
    }
    spec = map_lookup_elem(&__bpf_usdt_specs, &number);
    if (!spec || spec->arg_cnt != 2)
        return 0;
    first = &spec->args[0];
    if (first->arg_type == BPF_USDT_ARG_REG)
        probe_read_kernel(&value, sizeof(value), (char *)context + first->reg_off);
    argument = (s64)(value << first->arg_bitshift) >> first->arg_bitshift;
    count(USDT);
    return 0;
}

char _license[] SEC("license") = "GPL";
