/* CO-RE: questions about types of any kernel, whose answers tests/live/test_object.py compares with libbpf's.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c kernel.bpf.c -o kernel.bpf.o && llvm-strip-14 -g kernel.bpf.o
 */
#include "bpf.h"

struct list_head {
    struct list_head *next;
} access_index;

struct mm_struct {
    u64 start_code;
} access_index;

struct cred___mine {
    int uid;
} access_index;

struct task_struct {
    int pid;
    int tgid;
    char comm[16];
    struct mm_struct *mm;
    struct task_struct *real_parent;
    u64 start_time;
    u32 in_execve : 1;
    u32 frozen : 1;
    u32 no_such;
    int exit_code;
    struct list_head tasks;
} access_index;

struct task_struct___old {
    long state;
} access_index;

struct sock_common {
    u16 skc_family;
    u16 skc_num;
    struct {
        u32 skc_daddr;
    };
} access_index;

enum bpf_func_id { BPF_FUNC_loop = 0, BPF_FUNC_nothing = 1 };

typedef int (*initcall_t)(void);

#define INFO(field, kind) __builtin_preserve_field_info(field, kind)
#define TYPE_INFO(type, kind) __builtin_preserve_type_info(*(type *)0, kind)
#define VALUE(type, value, kind) __builtin_preserve_enum_value(*(type *)value, kind)

u64 answers[40];

SEC("raw_tp/sys_enter")
int ask(u64 *context)
{
    struct task_struct *task = (void *)context[0];
    struct task_struct___old *old = (void *)task;
    struct sock_common *sock = (void *)task;

    answers[0] = INFO(task->pid, 0);
    answers[1] = INFO(task->tgid, 0);
    answers[2] = INFO(task->comm, 0);
    answers[3] = INFO(task->comm, 1);
    answers[4] = INFO(task->mm, 0);
    answers[5] = INFO(task->real_parent, 0);
    answers[6] = INFO(task->in_execve, 0);
    answers[7] = INFO(task->in_execve, 1);
    answers[8] = INFO(task->in_execve, 4);
    answers[9] = INFO(task->in_execve, 5);
    answers[10] = INFO(task->frozen, 4);
    answers[11] = INFO(task->frozen, 0);
    answers[12] = INFO(task->no_such, 2);
    answers[13] = INFO(old->state, 2);
    answers[14] = INFO(task->exit_code, 3);
    answers[15] = INFO(task->tasks.next, 0);
    answers[16] = INFO(task->comm[3], 0);
    answers[17] = TYPE_INFO(struct task_struct, 1);
    answers[18] = TYPE_INFO(struct cred___mine, 1);
    answers[19] = TYPE_INFO(struct cred___mine, 0);
    answers[20] = __builtin_btf_type_id(*(struct task_struct *)0, 1);
    answers[21] = VALUE(enum bpf_func_id, BPF_FUNC_loop, 1);
    answers[22] = VALUE(enum bpf_func_id, BPF_FUNC_nothing, 0);
    answers[23] = VALUE(enum bpf_func_id, BPF_FUNC_loop, 0);
    answers[24] = INFO(sock->skc_num, 0);
    answers[25] = INFO(sock->skc_daddr, 0);
    answers[26] = TYPE_INFO(initcall_t, 0);
    answers[27] = INFO(task->start_time, 0);
    answers[28] = INFO(sock->skc_num, 1);
    answers[29] = INFO(sock->skc_num, 3);
    return 0;
}

char licence[] SEC("license") = "GPL";
