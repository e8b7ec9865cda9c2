/* Every question of CO-RE, asked of types that tests/unit/object/test_core.py changes.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c core.bpf.c -o core.bpf.o && llvm-strip-14 -g core.bpf.o
 */
#include "bpf.h"

struct inside {
    u32 x;
    u32 y;
} access_index;

enum color { RED = 1, GREEN = 2 };

typedef u32 number_t;

struct task {
    s32 pid;
    u16 flags;
    u32 low : 3;
    u32 high : 5;
    struct inside in;
    struct inside list[4];
    union {
        u32 anonymous;
        u64 other;
    };
    char comm[16];
    struct task *parent;
    u32 narrow;
    s32 minus : 6;
} access_index;

struct task___gone {
    int gone;
} access_index;

struct nowhere {
    int field;
} access_index;

#define INFO(field, kind) __builtin_preserve_field_info(field, kind)
#define TYPE_INFO(type, kind) __builtin_preserve_type_info(*(type *)0, kind)
#define VALUE(type, value, kind) __builtin_preserve_enum_value(*(type *)value, kind)

u64 answers[32];

SEC("raw_tp/test")
int ask(u64 *context)
{
    struct task *task = (void *)context[0];
    struct task___gone *gone = (void *)task;
    struct nowhere *nowhere = (void *)task;
    u64 value = 0;

    answers[0] = INFO(task->pid, 0);
    answers[1] = INFO(task->in.y, 0);
    answers[2] = INFO(task->list[2].y, 0);
    answers[3] = INFO(task->anonymous, 0);
    answers[4] = INFO(task->comm[5], 0);
    answers[5] = INFO(task->comm, 1);
    answers[6] = INFO(task->flags, 2);
    answers[7] = INFO(gone->gone, 2);
    answers[8] = INFO(nowhere->field, 2);
    answers[9] = INFO(task->pid, 3);
    answers[10] = INFO(task->flags, 3);
    answers[11] = INFO(task->high, 0);
    answers[12] = INFO(task->high, 1);
    answers[13] = INFO(task->high, 4);
    answers[14] = INFO(task->high, 5);
    answers[15] = INFO(task->minus, 3);
    answers[16] = __builtin_btf_type_id(*(struct task *)0, 0);
    answers[17] = __builtin_btf_type_id(*(struct task *)0, 1);
    answers[18] = TYPE_INFO(struct task, 0);
    answers[19] = TYPE_INFO(struct nowhere, 0);
    answers[20] = TYPE_INFO(struct task, 1);
    answers[21] = TYPE_INFO(number_t, 0);
    answers[22] = VALUE(enum color, GREEN, 0);
    answers[23] = VALUE(enum color, GREEN, 1);
    answers[24] = VALUE(enum color, RED, 1);
    answers[25] = INFO(task->parent, 0);
    if (INFO(gone->gone, 2))
        value = INFO(gone->gone, 0);
    answers[26] = value;
    return 0;
}

SEC("raw_tp/loads")
int loads(struct task *task)
{
    answers[0] = task->narrow;
    answers[1] = (u64)task->parent;
    answers[2] = task->flags;
    return 0;
}

char licence[] SEC("license") = "GPL";
