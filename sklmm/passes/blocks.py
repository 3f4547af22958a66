"""Blocks of clusters: how large they are, and samples of them that a fit of many rows begins with.

A sample changes the path of a fit, not its end. It is drawn in a fixed pseudo-random order, as rows are often listed by
what they hold, and only used where it has enough rows of every column with either outcome: a rare category that a
sample knows with one outcome alone sends its coefficient to infinity.
"""

import numpy as np

from sklmm._kernels._grouping import whole_blocks

TILE_BYTES = 1 << 17  # rows that a block loads at once: they should stay in the second-level cache
MAX_CHUNKS = 32  # independent accumulators; a constant, so that sums do not depend on the number of threads
ACCUMULATOR_BYTES = 1 << 26  # ... unless p is so large that they would fill memory
POLISH_ROWS = 50_000  # up to here one more pass costs less than the rest of a fit

STRIDES = (8, 64)  # a sample holds one block in so many
MANY_BLOCKS = 80  # with fewer of them a sample of blocks is like the data only if clusters stand in no order
MIN_ROWS, MIN_CLUSTERS = 1000, 10
ROWS_PER_PARAMETER = 20
MIN_OF_EITHER_OUTCOME = 10  # rows in which a column differs from its median, in a sample


def cluster_order(n_clusters, n_rows, tile):
    """A fixed pseudo-random order of the clusters, or None: where rows are few enough to copy and many enough for
    samples, and blocks so few that neighbours in the data should not stand in one."""
    if STRIDES[0] * MIN_ROWS <= n_rows < MANY_BLOCKS * tile:
        return np.random.default_rng(0).permutation(n_clusters)
    return None


def rows_of_tile(n_numbers):
    """Rows in a tile, a multiple of 8, where a row takes so many numbers."""
    return int(np.clip(TILE_BYTES // (8 * n_numbers), 64, 1024) // 8 * 8)


class Blocks:
    """Blocks of whole clusters, and samples of them.

    Parameters
    ----------
    start : ndarray of shape (n_clusters + 1,)
        First row of each cluster, and the end.
    tile : int
        Rows that are loaded at once.
    accumulator : int
        Bytes that a chunk of blocks sums up in.

    Attributes
    ----------
    n : int
    first, first_row : ndarray of shape (n + 1,)
        First cluster and first row of each block.
    chunk : ndarray
        First block of each chunk, and the end.
    rank : ndarray of shape (n,)
        A fixed pseudo-random order: a sample of k blocks are those with a rank below k.
    """

    def __init__(self, start, tile, accumulator):
        self.first = whole_blocks(start, tile)
        self.n, self.first_row = self.first.size - 1, start[self.first]
        n_chunks = min(self.n, MAX_CHUNKS, max(4, ACCUMULATOR_BYTES // accumulator))
        self.chunk = np.linspace(0, self.n, n_chunks + 1).astype(np.int64)
        self.rank = np.random.default_rng(0).permutation(self.n)

    def sample(self, stride):
        """The order of the blocks, and how many of them the sample of one in `stride` has."""
        return self.rank, -(-self.n // stride)

    def sampled_rows(self, stride):
        """Mask of the rows in a sample."""
        rank, size = self.sample(stride)
        return np.repeat(rank < size, np.diff(self.first_row))

    def strides(self, X, y, n_clusters, n_params):
        """The samples to climb through, coarsest first, e.g. [64, 8, 1]; 1 is all blocks.

        Parameters
        ----------
        X : ndarray of shape (n, p)
            In the order of the clusters.
        y : ndarray of shape (n,)
            0 or 1.
        n_clusters, n_params : int

        Returns
        -------
        strides : list of int
        """
        strides, first_row, order = [1], self.first_row, np.argsort(self.rank)
        for stride in STRIDES:
            chosen = order[: self.sample(stride)[1]]
            n_rows = int((first_row[chosen + 1] - first_row[chosen]).sum())
            enough = n_rows >= max(MIN_ROWS, ROWS_PER_PARAMETER * n_params) and n_clusters >= stride * MIN_CLUSTERS
            if not (enough and stride <= self.n and _tells_of_all(X, y, first_row, chosen)):
                break
            strides.insert(0, stride)
        return strides


def _tells_of_all(X, y, first_row, chosen):
    """Whether these blocks have rows of either outcome that differ from the median of their column, for all columns."""
    usual = None
    for block in chosen:
        rows, outcome = X[first_row[block] : first_row[block + 1]], y[first_row[block] : first_row[block + 1]] > 0
        if usual is None:
            usual, found = np.median(rows, axis=0), np.zeros((2, X.shape[1]), dtype=np.int64)
        differs = rows != usual
        successes = np.count_nonzero(differs[outcome], axis=0)
        found += successes, np.count_nonzero(differs, axis=0) - successes
        if found.min(initial=MIN_OF_EITHER_OUTCOME) >= MIN_OF_EITHER_OUTCOME:
            return True
    return False
