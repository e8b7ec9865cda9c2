/* Functions to put probes on: each is called a known number of times with known arguments. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBED __attribute__((noinline, used))

struct inner {
	int16_t small;
	int64_t large;
};

struct outer {
	uint8_t tag;
	unsigned int low : 3;
	unsigned int middle : 10;
	int negative : 6;
	uint32_t numbers[4];
	struct inner inner;
	struct inner *pointed;
	const char *text;
	char name[12];
	union {
		uint32_t whole;
		uint8_t bytes[4];
	};
	struct outer *next;
};

enum color { RED = 1, GREEN = 2, BLUE = 40 };

volatile int sink;
int64_t global_number = 4242;
uint8_t global_bytes[4] = {1, 2, 3, 4};

PROBED int take_text(const char *text) { sink++; return strlen(text); }
PROBED void take_long(const char *text) { sink += text[0]; }
PROBED void take_longer(const char *text) { sink += text[0]; }
PROBED void take_bytes(const unsigned char *bytes, unsigned length) { sink += bytes[0] + length; }
PROBED void take_null(const char *text) { sink += text == NULL; }
PROBED int add(int left, int right) { sink++; return left + right; }
PROBED int64_t six(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) { return a + b + c + d + e + f; }
PROBED int64_t eight(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f, int64_t g, int64_t h)
{
	return a + b + c + d + e + f + g + h;
}
PROBED int take_outer(const struct outer *outer) { return outer->tag; }
PROBED int take_color(enum color color) { return color; }
PROBED int fall(int depth) { sink++; return depth == 0 ? 0 : 1 + fall(depth - 1); }
PROBED int minus(void) { return -7; }
PROBED uint64_t wide(void) { return 0xfedcba9876543210; }
PROBED const char *answer(void) { return "the answer"; }
PROBED void leaf(void) { sink++; }
PROBED void middle(void) { leaf(); sink++; }
PROBED void top(void) { middle(); sink++; }
PROBED void multi_one(int n) { sink += n; }
PROBED void multi_two(int n) { sink += n; }
PROBED void multi_three(int n) { sink += n; }

int main(int argc, char **argv)
{
	static char long_text[1001], longer_text[3001];
	static const unsigned char bytes[] = {0, 1, 'a', 'b', 0xff};
	struct inner pointed = {-9, 900000000000};
	struct outer second = {.tag = 2, .text = "second", .pointed = &pointed};
	struct outer first = {
		.tag = 77, .low = 5, .middle = 1000, .negative = -20,
		.numbers = {10, 20, 30, 40},
		.inner = {-3, -5000000000},
		.pointed = &pointed, .text = "first", .name = "a name",
		.whole = 0x04030201, .next = &second,
	};
	const char *twelve = "twelve chars";
	int total = 0;

	for (int i = 0; i < 1000; i++)
		long_text[i] = '0' + i % 10;
	memset(longer_text, 'x', 3000);

	/* A page that was never touched is not in memory, and a probe cannot read it. */
	sink += first.text[0] + second.text[0] + twelve[0] + answer()[0];

	total += take_text(twelve);
	take_long(long_text);
	take_longer(longer_text);
	take_bytes(bytes, sizeof(bytes));
	take_null(NULL);
	total += add(3, 4) + add(-10, 2) + add(100, 200);
	total += six(1, 2, 3, 4, 5, 6) + eight(1, 2, 3, 4, 5, 6, 7, 8);
	total += take_outer(&first);
	total += take_color(GREEN) + take_color(BLUE);
	total += fall(3) + minus() + (int)wide();
	top();
	multi_one(1);
	multi_two(2);
	multi_three(3);
	/* With an argument, stay for a while: some tools name addresses only while the process lives. */
	if (argc > 1)
		usleep(atoi(argv[1]) * 1000);
	return total == -1;
}
