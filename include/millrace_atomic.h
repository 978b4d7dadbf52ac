/*
 * All memory ordering of the C client. Nothing else in it touches a word that others share without one of these.
 *
 * The names say the C11 order. Call sites carry the step of docs/FORMAT.md in a comment; docs/ORDERING.md says what each step pairs with and
 * what breaks without it. Memory of a segment is seen only through pointers to plain integers, so that the layout is that of the format in C and in C++; the
 * builtins of gcc and clang make the accesses atomic.
 */
#ifndef MILLRACE_ATOMIC_H
#define MILLRACE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "millrace: needs Linux on amd64 or arm64"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "millrace: the format is little-endian"
#endif

#if defined(__SANITIZE_THREAD__)
#define MR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MR_TSAN 1
#endif
#endif
#ifndef MR_TSAN
#define MR_TSAN 0
#endif

/* Functions that are meant to be inlined, and those that are meant not to be. */
#define MR_FAST __attribute__((unused)) static inline
#define MR_SLOW __attribute__((unused, noinline)) static
#define mr_likely(x) __builtin_expect(!!(x), 1)
#define mr_unlikely(x) __builtin_expect(!!(x), 0)

MR_FAST uint64_t mr_load_rlx(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
MR_FAST uint64_t mr_load_acq(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
MR_FAST uint64_t mr_load_sc(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
MR_FAST void mr_store_rlx(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
MR_FAST void mr_store_rel(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

MR_FAST uint32_t mr_load32_rlx(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
MR_FAST uint32_t mr_load32_acq(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
MR_FAST void mr_store32_rlx(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
MR_FAST void mr_store32_rel(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }

/* CAS: acquire and release. False when the word was not `was`. */
MR_FAST bool mr_cas(uint64_t *p, uint64_t was, uint64_t v)
{
	return __atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

MR_FAST bool mr_cas32(uint32_t *p, uint32_t was, uint32_t v)
{
	return __atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Addition: sequentially consistent, for the half of a store-load pair that is no fast path. Returns the old value. */
MR_FAST uint64_t mr_add_sc(uint64_t *p, uint64_t n) { return __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST); }
MR_FAST uint32_t mr_add32_sc(uint32_t *p, uint32_t n) { return __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST); }

/* A full fence. The thread sanitizer does not know fences, but an operation on a word of one's own is one to the processor. */
MR_FAST void mr_fence(void)
{
#if MR_TSAN
	uint32_t own = 0;
	(void)__atomic_exchange_n(&own, 1, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/*
 * P6, S4, D4: hand memory over. What follows is the load N1 of an event word, which must not pass this store. With a fence, or (FORMAT 8.4) by the
 * membarrier that the sleeper issues between its W1 and W3; then only the compiler has to be kept from reordering the two.
 */
MR_FAST void mr_publish(uint64_t *p, uint64_t v, bool fenced)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	if (mr_unlikely(fenced))
		mr_fence();
	else
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* A counter of which the caller is the only writer. */
MR_FAST void mr_bump(uint64_t *p, uint64_t n) { mr_store_rlx(p, mr_load_rlx(p) + n); }

/* A moment of a spin. */
MR_FAST void mr_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ __volatile__("isb" ::: "memory");
#endif
}

/*
 * Spends n > 0 turns of three cycles, which begin when all loads before it are done, and no load behind it begins before they are over: a short time, more exactly than by
 * mr_pause. For processors of which mr_shared_is_slow says so.
 */
MR_FAST void mr_delay(unsigned n)
{
#if defined(__x86_64__)
	uint64_t x = n, turns = n;
	__asm__ __volatile__("lfence\n2:\timul %0, %0\n\tdec %1\n\tjnz 2b\n\tlfence" : "+r"(x), "+r"(turns) : : "cc", "memory");
#else
	(void)n;
#endif
}

/* Asks for the cache line of p for writing, so that nobody else has it, and does not wait for it. */
MR_FAST void mr_prefetch_write(const void *p)
{
#if defined(__x86_64__) /* written out: without a flag for a newer processor compilers prefetch for reading */
	__asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

#endif /* MILLRACE_ATOMIC_H */
