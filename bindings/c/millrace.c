/* libmillrace.so: the functions of include/millrace_api.h for programs that cannot include them, such as those of other languages. */
#define MILLRACE_API __attribute__((visibility("default")))
#include "millrace.h"
