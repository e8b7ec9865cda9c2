/* A library with a static probe, tracebee:work, that has a semaphore and two arguments: an int in %edi, and 17.
 *
 *     gcc -shared -nostdlib -O1 -fcf-protection=none -fno-asynchronous-unwind-tables -Wl,--build-id=none -s \
 *         -o probed.so probed.c
 */
__asm__(".pushsection .probes, \"aw\"\n"
        ".globl semaphore\n"
        "semaphore: .2byte 0\n"
        ".popsection\n");

extern unsigned short semaphore __attribute__((visibility("hidden")));

__attribute__((noinline)) int work(int value)
{
    __asm__ volatile("990: nop\n"
                     ".pushsection .note.stapsdt, \"\", \"note\"\n"
                     ".balign 4\n"
                     ".4byte 992f-991f, 994f-993f, 3\n"
                     "991: .asciz \"stapsdt\"\n"
                     "992: .balign 4\n"
                     "993: .8byte 990b\n"
                     ".8byte 0\n"
                     ".8byte semaphore\n"
                     ".asciz \"tracebee\"\n"
                     ".asciz \"work\"\n"
                     ".asciz \"-4@%%edi 4@$17\"\n"
                     "994: .balign 4\n"
                     ".popsection\n" : : "D"(value));
    return value + 1;
}

int watched(void)
{
    return semaphore;
}
