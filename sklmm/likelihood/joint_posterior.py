"""Joint posterior covariance of the random effects across grouping factors.

Given the parameters, the spherical random effects u are normal around their modes with covariance Sigma = H^-1. What a
row's prediction needs is one block of it, for the row's own levels, which may never have met in the data. Sigma itself
is dense; what is stored determines every entry of it:

* nested factors: for each level the coefficients of its regression on its ancestors (O(levels));
* crossed factors: Sigma among all factors but the largest (dense, one triangle), and for each level of the largest its
  regression on the levels it met (one number a pair that occurs).

Above STORED_BYTES the second kind is left out; the factors are then taken as independent a posteriori.
"""

import numpy as np
from scipy.sparse import csr_array

STORED_BYTES = 1 << 30
ENTRIES_AT_ONCE = 1 << 21
_FEW_PRODUCTS = 1 << 19  # below, all covariances of the leaf with the border cost less than lists of many rows


class TreePosterior:
    """Every factor nested in the next, the leaf first.

    Parameters
    ----------
    parents : list of ndarray
        Level of the next factor for each level of every factor but the last.
    K : list of ndarray of shape (n_levels, q, coefficients of all ancestors)
        E(u | ancestors) = -K u_ancestors.
    own : list of ndarray of shape (n_levels, q, q)
        Covariance of each level.
    """

    def __init__(self, parents, K, own):
        self.parents, self.K, self.own = parents, K, own
        self.sizes = [block.shape[1] for block in own]

    def block(self, f, left, g, right):
        """Covariance of levels `left` of factor f and `right` of factor g, by row: (n, q_f, q_g)."""
        if f > g:
            return np.swapaxes(self.block(g, right, f, left), 1, 2)
        out = np.zeros((left.size, self.sizes[f], self.sizes[g]))
        if f == g:
            same = left == right
            out[same] = self.own[f][left[same]]
        else:
            same = np.zeros(left.size, dtype=bool)
        if f + 1 == len(self.sizes):
            return out  # levels of the top factor are independent
        rest = np.flatnonzero(~same)
        level, start = left[rest], 0
        K = self.K[f][level]
        for h in range(f + 1, len(self.sizes)):  # through the ancestors of `left`
            level = self.parents[h - 1][level]
            stop = start + self.sizes[h]
            out[rest] -= K[:, :, start:stop] @ self.block(h, level, g, right[rest])
            start = stop
        return out


class BorderedPosterior:
    """The largest factor, the leaf, given those it met, and the dense covariance of all others.

    Parameters
    ----------
    first, index : ndarray
        The border's coefficients that each leaf met: `index[first[i]:first[i + 1]]`.
    K : ndarray of shape (index.size, q)
        E(u_leaf | border) = -K'u_border.
    Sigma : ndarray of shape (n_border, n_border)
    base, sizes : sequence of int
        Where each factor of the border begins, and its number of coefficients.
    """

    def __init__(self, first, index, K, Sigma, base, sizes):
        self.first, self.index, self.K, self.base, self.sizes = first, index, K, base, sizes
        self.n_border = len(Sigma)
        self.packed = Sigma[np.tril_indices(len(Sigma))]

    def block(self, f, left, g, right):
        """Covariance of levels `left` of factor f and `right` of another factor g, by row; the leaf is factor 0."""
        if g == 0:
            return np.swapaxes(self.block(g, right, f, left), 1, 2)
        columns = (self.base[g - 1] + right * self.sizes[g - 1])[:, None] + np.arange(self.sizes[g - 1])
        if f > 0:
            rows = (self.base[f - 1] + left * self.sizes[f - 1])[:, None] + np.arange(self.sizes[f - 1])
            return self._among_border(rows[:, :, None], columns[:, None, :])
        q = self.K.shape[1]
        out = np.zeros((left.size, q, self.sizes[g - 1]))
        if self.index.size * self.n_border <= _FEW_PRODUCTS:  # whatever the rows: they are not to matter to each other
            every = np.arange(self.n_border)
            Sigma = self._among_border(every[:, None], every)
            for a in range(q):
                K = csr_array((self.K[:, a], self.index, self.first), shape=(self.first.size - 1, self.n_border))
                out[:, a] = -(K @ Sigma)[left[:, None], columns]
            return out
        count = np.diff(self.first)[left]
        stops = np.cumsum(count)
        begin = 0
        while begin < left.size:  # in pieces, since each row has a list of its own
            done = stops[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(stops, done + ENTRIES_AT_ONCE)))
            piece = slice(begin, end)
            row = np.repeat(np.arange(end - begin), count[piece])
            entry = np.arange(row.size) - np.repeat(stops[piece] - count[piece] - done, count[piece])
            entry += np.repeat(self.first[left[piece]], count[piece])
            for b in range(self.sizes[g - 1]):
                Sigma = self._among_border(self.index[entry].astype(np.int64), columns[piece][row, b])
                for a in range(q):
                    out[piece, a, b] = -np.bincount(row, weights=self.K[entry, a] * Sigma, minlength=end - begin)
            begin = end
        return out

    def _among_border(self, rows, columns):
        low, high = np.minimum(rows, columns), np.maximum(rows, columns)
        return self.packed[high * (high + 1) // 2 + low]


class JointPosterior:
    """Covariances across the factors of a fitted model, of effects u as independent standard normals (`EffectUnits`).

    Parameters
    ----------
    n_levels : list of int
        Of each factor, in the model's order.
    order : list of int
        Position in the model of each of the engine's factors.
    sizes : list of int
        Random coefficients of each factor, in the model's order.
    sigma : TreePosterior, BorderedPosterior or None
        None: nothing is known across factors.
    """

    def __init__(self, n_levels, order, sizes, sigma):
        place = np.argsort(order)
        self._sizes = sizes
        self._parts = [(place, sigma)]
        # which part knows a level, and as what: after `updated` the levels come from several
        self._part = [np.zeros(n, dtype=np.intp) for n in n_levels]
        self._level = [np.arange(n) for n in n_levels]

    @property
    def complete(self):
        """Whether the covariances across factors are stored."""
        return all(sigma is not None for _, sigma in self._parts)

    def covariance(self, f, left, g, right):
        """Covariance of the effects of levels `left` of factor f and `right` of factor g != f: (n, q_f, q_g).

        Levels learnt from different rows (see `updated`) are independent.
        """
        out = np.zeros((left.size, self._sizes[f], self._sizes[g]))
        part = self._part[f][left]
        for k, (place, sigma) in enumerate(self._parts):
            rows = np.flatnonzero((part == k) & (self._part[g][right] == k))
            if sigma is None or rows.size == 0:
                continue
            out[rows] = sigma.block(place[f], self._level[f][left[rows]], place[g], self._level[g][right[rows]])
        return out

    def updated(self, kept, new):
        """This posterior for the levels that are kept (masks by factor), followed by the levels of another one."""
        out = object.__new__(JointPosterior)
        used = sorted({int(k) for part, mask in zip(self._part, kept, strict=True) for k in np.unique(part[mask])})
        renumber = {k: i for i, k in enumerate(used)}
        out._sizes = self._sizes
        out._parts = [self._parts[k] for k in used] + new._parts
        out._part, out._level = [], []
        for f, mask in enumerate(kept):
            old = np.array([renumber[int(k)] for k in self._part[f][mask]], dtype=np.intp)
            out._part.append(np.concatenate([old, new._part[f] + len(used)]))
            out._level.append(np.concatenate([self._level[f][mask], new._level[f]]))
        return out
