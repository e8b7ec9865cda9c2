/* Reads the file that the argument names: 16 bytes, then 7, then with a descriptor that is none. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char buffer[64];
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0)
		return 1;
	if (read(fd, buffer, 16) != 16 || read(fd, buffer, 7) != 7)
		return 1;
	return read(-1, buffer, 5) == -1 ? 0 : 1;
}
