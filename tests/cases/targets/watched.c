/* Writes three values to a fixed address, 0x10000000, and reads them back. */
#include <stdint.h>
#include <sys/mman.h>

int main(void)
{
	volatile uint64_t *slot = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	uint64_t sum = 0;

	if (slot == MAP_FAILED)
		return 1;
	for (uint64_t i = 1; i <= 3; i++) {
		*slot = i * 11;
		sum += *slot;
	}
	return sum == 66 ? 0 : 1;
}
