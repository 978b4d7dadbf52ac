/* unit [NAME...]: runs the tests, or those that are named. */
#include "unit.h"

int main(int argc, char **argv)
{
	const test *const tables[] = {basic_tests, hostile_tests, thread_tests};
	int ran = 0;
	for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
		for (const test *x = tables[t]; x->name != NULL; x++) {
			bool wanted = argc < 2;
			for (int i = 1; i < argc; i++)
				wanted = wanted || strcmp(argv[i], x->name) == 0;
			if (!wanted)
				continue;
			x->run();
			(void)printf("ok %s\n", x->name);
			ran++;
		}
	}
	return ran == 0;
}
