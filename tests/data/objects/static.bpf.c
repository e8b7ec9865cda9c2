/* A static probe, whose arguments libbpf's usdt.bpf.h would find; and what the kernel's configuration says.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c static.bpf.c -o static.bpf.o && llvm-strip-14 -g static.bpf.o
 */
#include "bpf.h"

#define KCONFIG __attribute__((section(".kconfig")))

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

static u64 (*get_attach_cookie)(void *context) = (void *)174;

extern int LINUX_KERNEL_VERSION KCONFIG;
extern const _Bool LINUX_HAS_BPF_COOKIE KCONFIG;

u32 target = 0;
u32 version = 0;
_Bool has_cookie = 0;
u32 hits = 0;
s64 argument = 0;

SEC("usdt")
int probed(void *context)
{
    struct __bpf_usdt_arg_spec *first;
    struct __bpf_usdt_spec *spec;
    u32 number = get_attach_cookie(context);
    u64 value = 0;

    if (target != get_current_pid_tgid() >> 32)
        return 0;
    version = LINUX_KERNEL_VERSION;
    has_cookie = LINUX_HAS_BPF_COOKIE;
    spec = map_lookup_elem(&__bpf_usdt_specs, &number);
    if (!spec || spec->arg_cnt != 2)
        return 0;
    first = &spec->args[0];
    if (first->arg_type == BPF_USDT_ARG_REG)
        probe_read_kernel(&value, sizeof(value), (char *)context + first->reg_off);
    argument = (s64)(value << first->arg_bitshift) >> first->arg_bitshift;
    hits++;
    return 0;
}

char licence[] SEC("license") = "GPL";
