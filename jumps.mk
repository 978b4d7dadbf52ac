# JUMPS is the assembler's option that keeps jumps off 32-byte boundaries, where it is known. Intel's processors from Skylake to Comet Lake do not keep code in
# their fast cache when a jump crosses or ends at one, so that luck decides over a third of a short call. Go's compiler keeps its jumps away by itself.
JUMPS = $(if $(filter x86_64,$(shell uname -m)),$(shell echo 'int x;' | $(CC) -Wa,-mbranches-within-32B-boundaries -x c -c -o /dev/null - 2>/dev/null && echo -Wa,-mbranches-within-32B-boundaries))
