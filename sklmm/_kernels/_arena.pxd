"""Scratch memory of a thread: one allocation, cut into arrays."""


cdef extern from "_arena.h" nogil:
    ctypedef struct sklmm_arena:
        double *base
        ptrdiff_t used
    double *arena_cut(sklmm_arena *arena, ptrdiff_t n)
