/* Questions that a program asks before it goes on: what is not there is never reached, and the verifier takes it.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c guards.bpf.c -o guards.bpf.o && llvm-strip-14 -g guards.bpf.o
 */
#include "bpf.h"

struct task_struct {
    int pid;
    int no_such;
    u32 in_execve : 1;
    u64 start_time;
} access_index;

struct task_struct___renamed {
    int thread_group_id;
} access_index;

struct nowhere_at_all {
    u64 first;
    u64 second;
} access_index;

struct sk_buff {
    u32 len;
    u8 pkt_type : 3;
    u8 cloned : 1;
    u16 protocol;
} access_index;

enum bpf_map_type { BPF_MAP_TYPE_RINGBUF___mine = 1, BPF_MAP_TYPE_IMAGINED = 2 };
enum imagined { IMAGINED = 5 };
typedef struct { int counter; } atomic_t;
union bpf_attr { u32 map_type; } access_index;

#define INFO(field, kind) __builtin_preserve_field_info(field, kind)
#define TYPE_INFO(type, kind) __builtin_preserve_type_info(*(type *)0, kind)
#define VALUE(type, value, kind) __builtin_preserve_enum_value(*(type *)value, kind)

u64 answers[24];

SEC("raw_tp/sys_enter")
int guarded(u64 *context)
{
    struct task_struct *task = (void *)context[0];
    struct task_struct___renamed *renamed = (void *)task;
    struct nowhere_at_all *nowhere = (void *)task;
    struct sk_buff *packet = (void *)task;

    if (INFO(task->no_such, 2))
        answers[0] = INFO(task->no_such, 0);
    if (INFO(renamed->thread_group_id, 2))
        answers[1] = INFO(renamed->thread_group_id, 0);
    if (TYPE_INFO(struct nowhere_at_all, 0))
        answers[2] = INFO(nowhere->second, 0) + INFO(nowhere->second, 1);
    answers[3] = TYPE_INFO(struct nowhere_at_all, 1);
    answers[4] = __builtin_btf_type_id(*(struct nowhere_at_all *)0, 1);
    if (VALUE(enum imagined, IMAGINED, 0))
        answers[5] = VALUE(enum imagined, IMAGINED, 1);
    if (VALUE(enum bpf_map_type, BPF_MAP_TYPE_IMAGINED, 0))
        answers[6] = VALUE(enum bpf_map_type, BPF_MAP_TYPE_IMAGINED, 1);
    answers[7] = VALUE(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF___mine, 1);
    answers[8] = INFO(packet->pkt_type, 0);
    answers[9] = INFO(packet->pkt_type, 1);
    answers[10] = INFO(packet->pkt_type, 4);
    answers[11] = INFO(packet->pkt_type, 5);
    answers[12] = INFO(packet->cloned, 4);
    answers[13] = INFO(packet->cloned, 5);
    answers[14] = INFO(packet->pkt_type, 3);
    answers[15] = INFO(packet->protocol, 1);
    answers[16] = TYPE_INFO(atomic_t, 1);
    answers[17] = TYPE_INFO(union bpf_attr, 1);
    answers[18] = TYPE_INFO(struct sk_buff, 1);
    answers[19] = __builtin_btf_type_id(*(atomic_t *)0, 0);
    return 0;
}

char licence[] SEC("license") = "GPL";
