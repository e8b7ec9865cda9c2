/* An iterator over tasks that writes one line.
 *
 *     clang-14 -target bpfel -O2 -g -Wall -Wno-unused -c tasks.bpf.c -o tasks.bpf.o && llvm-strip-14 -g tasks.bpf.o
 */
#include "bpf.h"

static long (*seq_write)(void *file, const void *data, u32 size) = (void *)127;

struct seq_file;

struct bpf_iter_meta {
    struct seq_file *seq;
    u64 session_id;
    u64 seq_num;
} access_index;

struct bpf_iter__task {
    struct bpf_iter_meta *meta;
    void *task;
} access_index;

SEC("iter/task")
int first(struct bpf_iter__task *context)
{
    char text[] = "there are tasks\n";

    if (context->task && !context->meta->seq_num)
        seq_write(context->meta->seq, text, sizeof(text) - 1);
    return 0;
}

char licence[] SEC("license") = "GPL";
