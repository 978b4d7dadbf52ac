#include <millrace.h>

int main(void)
{
	mr_ring *ring;
	mr_producer *out;
	mr_consumer *in;
	mr_message m;
	if (mr_open_or_create(&ring, "greetings", NULL, NULL) || mr_consumer_new(ring, 0, 0, &in) || mr_producer_new(ring, 0, &out) ||
	    mr_send(out, "hello", 5, MR_FOREVER) || mr_next(in, &m, MR_FOREVER)) {
		fprintf(stderr, "%s\n", mr_error());
		return 1;
	}
	printf("%.*s\n", (int)m.size, (const char *)m.data);
	return mr_release(in) || mr_close(ring) || mr_remove("greetings", NULL, 0);
}
