/* Scratch memory of a thread: one allocation, cut into arrays. */
#ifndef SKLMM_ARENA_H
#define SKLMM_ARENA_H

#include <stddef.h>

/* AddressSanitizer knows the allocation alone: in its builds a red zone behind each array makes it see the arrays. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define SKLMM_RED_ZONE 64
#else
#define SKLMM_RED_ZONE 0
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

typedef struct {
    double *base;   /* NULL: nothing to cut, `used` measures */
    ptrdiff_t used; /* doubles */
} sklmm_arena;

/* The next n doubles, rounded up to whole vectors plus a spare one for reads past the end. */
static inline double *arena_cut(sklmm_arena *arena, ptrdiff_t n)
{
    double *here = arena->base ? arena->base + arena->used : NULL;
    const ptrdiff_t taken = (n + 15) / 8 * 8 + SKLMM_RED_ZONE;
    arena->used += taken;
    if (here) ASAN_POISON_MEMORY_REGION(here + n + 8, (taken - n - 8) * sizeof(double));
    return here;
}

#endif
