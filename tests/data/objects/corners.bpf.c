/* What few objects have: all kinds of settings, tags, an arena, a structure of functions, hidden functions.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c corners.bpf.c -o corners.bpf.o && llvm-strip-14 -g corners.bpf.o
 *
 * and the same with bpfeb, for the other byte order, as corners-eb.bpf.o.
 */
#include "bpf.h"

#define LONG(name, value) enum { name##_value = value } *name
#define LIST(name, type) typeof(type) *name[]
#define tag(text) __attribute__((btf_decl_tag(text)))
#define type_tag(text) __attribute__((btf_type_tag(text)))
#define hidden __attribute__((visibility("hidden")))
#define arena __attribute__((address_space(1)))
#define config __attribute__((section(".kconfig")))

enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE };

extern _Bool CONFIG_BOOL config;
extern char CONFIG_CHAR config;
extern enum libbpf_tristate CONFIG_TRISTATE config;
extern unsigned char CONFIG_BYTE config;
extern short CONFIG_SHORT config;
extern unsigned long CONFIG_LONG config;
extern const char CONFIG_TEXT[16] config;
extern _Bool LINUX_HAS_BPF_COOKIE config;
extern int CONFIG_WEAK config weak;

extern int maybe_there(int argument) __attribute__((section(".ksyms"))) weak;

/* --- maps */

enum { ARENA = 33 };

struct {
    NUMBER(type, ARENA);
    NUMBER(map_flags, 1024);
    NUMBER(max_entries, 10);
    LONG(map_extra, 0x10000000);
} memory SEC(".maps");

struct one {
    NUMBER(type, HASH);
    NUMBER(max_entries, 4);
    NUMBER(key_size, 4);
    NUMBER(value_size, 8);
};

struct {
    NUMBER(type, HASH_OF_MAPS);
    NUMBER(max_entries, 3);
    TYPE(key, u32);
    LIST(values, struct one);
} many SEC(".maps");

weak struct {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 1);
    NUMBER(numa_node, 0);
    NUMBER(map_flags, 4);
    TYPE(key, u32);
    struct tagged { u64 type_tag("user") *pointer; u32 bits : 3, more : 5; } *value;
} loose SEC(".maps");

/* --- variables */

int arena shared SEC(".addr_space.1") = 4;
static const char *const words[] = { "one", "two" };
volatile const u64 numbers[3] = { 1, 2, 1ull << 40 };
static u32 counter SEC(".data.percall");
struct { u8 a; s32 b; enum libbpf_tristate c; } mixed SEC(".data.mixed") = { 1, -2, TRI_MODULE };

/* --- functions */

hidden not_inline int concealed(int number) { counter += number; return counter; }

not_inline int outside(u64 number) { return concealed(number) + numbers[number & 1]; }

int caught(u64 cookie) { return cookie; }

SEC("xdp.frags")
tag("exception_callback:caught")
int packets(void *context)
{
    u64 *value;
    u32 key = 0;

    if (maybe_there)
        maybe_there(1);
    value = map_lookup_elem(&loose, &key);
    return value ? 2 : outside(CONFIG_BOOL + CONFIG_CHAR + CONFIG_TRISTATE + CONFIG_BYTE + CONFIG_SHORT);
}

SEC("cgroup_skb/egress")
int settings(void *context)
{
    return (CONFIG_LONG + CONFIG_TEXT[1] + LINUX_HAS_BPF_COOKIE + CONFIG_WEAK) & 1;
}

SEC("syscall")
int in_the_arena(void *context)
{
    return shared + (map_lookup_elem(&memory, context) != 0) + (map_lookup_elem(&many, context) != 0);
}

/* --- a structure of functions */

struct sock;

struct tcp_congestion_ops {
    void (*init)(struct sock *sk);
    u32 (*ssthresh)(struct sock *sk);
    u32 flags;
    char name[16];
    void *owner;
};

SEC("struct_ops/opened")
void opened(u64 *context) { }

SEC("struct_ops.s/limited")
int limited(u64 *context) { return 4; }

struct tcp_congestion_ops calm SEC(".struct_ops.link") = {
    .init = (void *)opened,
    .ssthresh = (void *)limited,
    .flags = 2,
    .name = "calm",
};

struct tcp_congestion_ops calmer SEC(".struct_ops") = { .init = (void *)opened, .name = "calmer" };

/* Data that points to data: of no use to a program, and to be left alone. */
const char *const *pointers SEC(".data.pointers") = words;

char licence[] SEC("license") = "GPL";
