/* Static probes written by hand: the notes are as <sys/sdt.h> of SystemTap would leave them. */
#include <stdint.h>
#include <stdio.h>

#define NOTE(provider, name, semaphore, arguments)                              \
	"990: nop\n"                                                            \
	".pushsection .note.stapsdt,\"?\",\"note\"\n"                           \
	".balign 4\n"                                                           \
	".4byte 992f-991f, 994f-993f, 3\n"                                      \
	"991: .asciz \"stapsdt\"\n"                                             \
	"992: .balign 4\n"                                                      \
	"993: .8byte 990b, _.stapsdt.base, " semaphore "\n"                     \
	".asciz \"" provider "\"\n"                                             \
	".asciz \"" name "\"\n"                                                 \
	".asciz \"" arguments "\"\n"                                            \
	"994: .balign 4\n"                                                      \
	".popsection\n"                                                         \
	".ifndef _.stapsdt.base\n"                                              \
	".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n"                        \
	"_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n"                   \
	".popsection\n"                                                         \
	".endif\n"

__attribute__((section(".probes"), used)) volatile unsigned short bee_guarded_semaphore;

__attribute__((noinline)) static void plain(void)
{
	__asm__ volatile(NOTE("bee", "plain", "0", ""));
}

__attribute__((noinline)) static void arguments(int32_t number, const char *text, uint64_t wide)
{
	__asm__ volatile(NOTE("bee", "arguments", "0", "-4@%[n] 8@%[t] 8@%[w] -4@$-12")
			 : : [n] "r"(number), [t] "r"(text), [w] "r"(wide));
}

__attribute__((noinline)) static void guarded(int value)
{
	if (bee_guarded_semaphore)
		__asm__ volatile(NOTE("bee", "guarded", "bee_guarded_semaphore", "-4@%[v]") : : [v] "r"(value));
}

__attribute__((noinline)) static void in_memory(int value)
{
	volatile int64_t slot = value * 1000;
	__asm__ volatile(NOTE("bee", "in_memory", "0", "-8@%[s]") : : [s] "m"(slot));
}

__attribute__((noinline)) static void twice(int value)
{
	__asm__ volatile(NOTE("bee", "twice", "0", "-4@%[v]") : : [v] "r"(value));
	value++;
	__asm__ volatile(NOTE("bee", "twice", "0", "-4@%[v]") : : [v] "r"(value));
}

int main(void)
{
	static char text[] = "a text";
	text[0] = 'A';
	plain();
	arguments(-5, text, 0x123456789abcULL);
	guarded(33);
	in_memory(7);
	twice(1);
	return 0;
}
