/* Maps that have more to them than a size: pinned by name, of maps, of programs, per processor; and what a kernel may
 * lack.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c shared.bpf.c -o shared.bpf.o && llvm-strip-14 -g shared.bpf.o
 */
#include "bpf.h"

#define BY_NAME 1

struct {
    NUMBER(type, HASH);
    NUMBER(max_entries, 8);
    NUMBER(pinning, BY_NAME);
    TYPE(key, u32);
    TYPE(value, u64);
} pinned SEC(".maps");

struct inner {
    NUMBER(type, ARRAY);
    NUMBER(max_entries, 2);
    TYPE(key, u32);
    TYPE(value, u64);
} first SEC(".maps"), second SEC(".maps");

struct {
    NUMBER(type, HASH_OF_MAPS);
    NUMBER(max_entries, 4);
    TYPE(key, u32);
    struct inner *values[];
} outer SEC(".maps") = {
    .values = { [1] = &first, [3] = &second },
};

struct {
    NUMBER(type, PERF_EVENT_ARRAY);
    NUMBER(key_size, 4);
    NUMBER(value_size, 4);
} samples SEC(".maps");

/* Of the object: it has the name of the buffer that a script writes to. */
struct {
    NUMBER(type, RINGBUF);
    NUMBER(max_entries, 4096);
} events SEC(".maps");

int after(void *context);

struct {
    NUMBER(type, PROG_ARRAY);
    NUMBER(max_entries, 2);
    NUMBER(key_size, 4);
    int (*values[])(void *);
} jumps SEC(".maps") = {
    .values = { [1] = &after },
};

extern void no_such_function(void) __attribute__((section(".ksyms"))) weak;
extern const int no_such_variable __attribute__((section(".ksyms"))) weak;
extern const void no_such_symbol __attribute__((section(".ksyms"))) weak;
extern const void vfs_read __attribute__((section(".ksyms")));

u64 found = 0, address = 0, jumped = 0;

/* Kinds of types that came after Linux 5.10. */
double real = 0;
u64 tagged __attribute__((btf_decl_tag("of a variable"))) = 0;
int __attribute__((btf_type_tag("of a type"))) *pointed = 0;

SEC("raw_tp/sys_enter") int after(void *context)
{
    jumped = 1;
    return 0;
}

SEC("raw_tp/sys_enter") int names(void *context)
{
    u64 one = 1;
    u32 key = 1, *inner, index = 0;

    address = (u64)&vfs_read;
    if (&no_such_symbol)
        found |= 1;
    if (&no_such_variable)
        found |= 2;
    inner = map_lookup_elem(&outer, &key);
    if (inner) {
        map_update_elem(inner, &index, &one, 0);
        map_update_elem(&pinned, &key, &one, 0);
    }
    perf_event_output(context, &samples, 0xffffffff, &one, sizeof(one));
    tail_call(context, &jumps, 1);
    return 0;
}

SEC("raw_tp/sys_enter") int calls(void *context)
{
    if (found & 4)
        no_such_function();
    return 0;
}

char _license[] SEC("license") = "GPL";
