"""Covariance structures of random coefficients: theta -> Lambda, the relative covariance factor.

The random coefficients of a group are ``b = Lambda u`` with ``u`` standard normal (Bates, Maechler, Bolker and
Walker, 2015, section 2), so their covariance is ``Lambda Lambda'``. Lambda is linear in theta, which the kernels
assume: entry l of theta is the entry (row[l], col[l]) of Lambda.
"""

import numpy as np

# Diagonal entries of Lambda (on standardised features) below this are variances on the boundary, as in lme4.
SINGULAR = 1e-4


class RelativeCovariance:
    """Block-diagonal Lambda of the terms of one grouping factor.

    Parameters
    ----------
    blocks : sequence of (size, correlated)
        One per term: a full lower triangle if `correlated`, else a diagonal.

    Attributes
    ----------
    q, m : int
        Random coefficients, and entries of theta.
    row, col : ndarray of shape (m,)
        Where each entry of theta stands in Lambda.
    """

    def __init__(self, blocks):
        entries, first = [], 0
        for size, correlated in blocks:
            for col in range(size):
                rows = range(col, size) if correlated else [col]
                entries += [(first + row, first + col) for row in rows]
            first += size
        self.q, self.m = first, len(entries)
        self.row, self.col = (np.array(e, dtype=np.int64) for e in zip(*entries, strict=True))
        self.diagonal = self.row == self.col

    def lambda_(self, theta):
        """The (q, q) relative covariance factor."""
        out = np.zeros((self.q, self.q))
        out[self.row, self.col] = theta
        return out

    def start(self):
        """Unit variances, no correlation."""
        return self.diagonal.astype(float)

    def signs(self, theta):
        """+-1 for each entry of theta that make the diagonal of Lambda non-negative: a column's sign is arbitrary."""
        sign = np.ones(self.q)
        sign[self.col[self.diagonal]] = np.where(theta[self.diagonal] < 0, -1.0, 1.0)
        return sign[self.col]

    def on_boundary(self, theta):
        """Mask of the diagonal entries of theta that are zero for all purposes."""
        return self.diagonal & (np.abs(theta) < SINGULAR)
