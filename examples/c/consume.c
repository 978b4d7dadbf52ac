/* consume NAME: writes each message to standard output, in batches, without copying it first, up to the end of the stream. */
#include <millrace.h>

enum { BATCH = 64 };

static int fail(const char *what)
{
	fprintf(stderr, "consume: %s: %s\n", what, mr_error());
	return 1;
}

int main(int argc, char **argv)
{
	mr_ring *ring;
	mr_consumer *in;
	size_t n;
	int status;
	if (argc != 2) {
		fprintf(stderr, "usage: consume NAME\n");
		return 2;
	}
	if (mr_open_or_create(&ring, argv[1], NULL, NULL) != MR_OK)
		return fail("open");
	if (mr_consumer_new(ring, 0, 0, &in) != MR_OK)
		return fail("register");
	while ((status = mr_next_batch(in, BATCH, &n, MR_FOREVER)) == MR_OK) {
		for (size_t i = 0; i < n; i++) {
			mr_message m = mr_at(in, i);
			if (fwrite(m.data, 1, m.size, stdout) != m.size)
				return 1; /* what is leased is given to somebody else */
		}
		if (fflush(stdout) != 0 || mr_release(in) != MR_OK)
			return fail("release");
	}
	if (status != MR_EOF)
		return fail("receive");
	return mr_close(ring) == MR_OK ? 0 : fail("close");
}
