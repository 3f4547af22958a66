"""Covariance structures of random coefficients: theta -> Lambda, the relative covariance factor.

The random coefficients of a group are ``b = Lambda u`` with ``u`` standard normal (Bates, Maechler, Bolker and
Walker, 2015, section 2), so their covariance is ``Lambda Lambda'``. Lambda is linear in theta, which the kernels
assume: entry l of theta is the entry (row[l], col[l]) of Lambda.
"""

import numpy as np

# Diagonal entries of Lambda (on standardised features) below this are variances on the boundary, as in lme4.
SINGULAR = 1e-4
PIVOT = 1e-8  # of the rows below: half of the digits for it, half for how they are turned


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
    blocks : list of (slice, bool)
        The coefficients of each term, and whether they are correlated.
    """

    def __init__(self, blocks):
        entries, first, self.blocks = [], 0, []
        for size, correlated in blocks:
            self.blocks.append((slice(first, first + size), bool(correlated)))
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

    def normal_form(self, factor):
        """The Lambda of this structure, with a non-negative diagonal, that has the covariance factor @ factor.T.

        Random effects that are turned or mirrored have the same distribution.
        """
        out = np.zeros((self.q, self.q))
        for block, correlated in self.blocks:
            lower = factor[block, block]
            if correlated and np.triu(lower, 1).any():  # a triangular one is not turned: if singular, it could be
                lower = np.linalg.qr(lower.T, mode="r").T
            out[block, block] = lower * np.where(lower.diagonal() < 0, -1.0, 1.0)
        return out

    def with_pivots(self, factor):
        """A Lambda of this structure with small numbers for zeros on its diagonal.

        A zero leaves the rows below it free to turn among its column and those behind: in other coordinates it would be
        forgotten which way. Small numbers tell `normal_form` both ways.
        """
        out = factor.copy()
        for block, correlated in self.blocks:
            part = out[block, block]  # a view
            for j in range(len(part) - 1 if correlated else 0):
                part[j, j] = max(part[j, j], PIVOT * np.linalg.norm(part[j + 1 :, j:]), key=abs)
        return out

    def normal_jacobian(self, factor, change):
        """Derivative of the entries of `normal_form` for a change of the factor; NaN in a singular correlated block."""
        out = np.zeros((self.q, self.q))
        for block, correlated in self.blocks:
            B, dB = factor[block, block], change[block, block]
            if not correlated or len(B) == 1:
                out[block, block] = dB * np.where(B.diagonal() < 0, -1.0, 1.0)
                continue
            L = self.normal_form(factor)[block, block]
            try:
                inverse = np.linalg.inv(L)
            except np.linalg.LinAlgError:
                out[block, block] = np.nan
                continue
            half = np.tril(inverse @ (dB @ B.T + B @ dB.T) @ inverse.T)  # d(L L') = L (phi + phi') L'
            out[block, block] = L @ (half - 0.5 * np.diag(half.diagonal()))
        return out[self.row, self.col]

    def on_boundary(self, theta):
        """Mask of the entries of theta that are zero for all purposes: diagonal ones, and those between two such."""
        small = np.abs(theta) < SINGULAR
        zero = np.zeros(self.q, dtype=bool)
        zero[self.row[self.diagonal & small]] = True
        return small & zero[self.row] & zero[self.col]
