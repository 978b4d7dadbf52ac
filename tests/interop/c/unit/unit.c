/* All of it as one file: the headers are compiled once. */
#include "basic.c"
#include "hostile.c"
#include "threads.c"

#include "main.c"
