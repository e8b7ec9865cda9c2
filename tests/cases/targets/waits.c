/* Calls tick() every 20 ms: as often as the argument says, else for a minute at most. */
#include <stdlib.h>
#include <unistd.h>

volatile int ticks;

__attribute__((noinline, used)) void tick(int number) { ticks = number; }

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) * 50 : 3000;

	for (int i = 0; i < rounds; i++) {
		tick(i);
		usleep(20000);
	}
	return 0;
}
