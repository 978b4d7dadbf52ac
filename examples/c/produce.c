/* produce NAME: sends each line of standard input as a message. Kill it when you like. */
#include <millrace.h>

static int fail(const char *what)
{
	fprintf(stderr, "produce: %s: %s\n", what, mr_error());
	return 1;
}

int main(int argc, char **argv)
{
	mr_ring *ring;
	mr_producer *out;
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	if (argc != 2) {
		fprintf(stderr, "usage: produce NAME\n");
		return 2;
	}
	if (mr_open_or_create(&ring, argv[1], NULL, NULL) != MR_OK)
		return fail("open");
	if (mr_producer_new(ring, 0, &out) != MR_OK)
		return fail("register");
	while ((n = getline(&line, &room, stdin)) >= 0)
		if (mr_send(out, line, (size_t)n, MR_FOREVER) != MR_OK)
			return fail("send");
	free(line);
	return mr_close(ring) == MR_OK ? 0 : fail("close"); /* closing the producer tells consumers that the stream ends here */
}
