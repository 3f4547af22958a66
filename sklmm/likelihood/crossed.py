"""Several grouping factors: the Laplace log-likelihood of (beta, theta), its exact gradient, and its Hessian.

The conditional modes of all random coefficients are found together. Their curvature H = Lambda'Z'WZ Lambda + I is
factorised at the modes; steps towards them use the factor of the evaluation before, since a pass over the rows costs
less than a factorisation. The gradient is that of the Laplace approximation itself: the modes move with the parameters,
and so do the weights in H. The Hessian is by central differences of it.
"""

from contextlib import nullcontext

import numpy as np
from threadpoolctl import ThreadpoolController

from sklmm._kernels._crossed import SETTLED_STEP, SHORT_STEP, CrossedRows, Search
from sklmm.likelihood.factorization import BorderedCholesky, TreeCholesky, check_memory
from sklmm.likelihood.layout import SeveralFactors
from sklmm.likelihood.posterior import averaged_rows
from sklmm.passes.blocks import MAX_CHUNKS

MODE_TOL = 1e-11  # of the conditional modes, relative to 1 + |u|
STEEP = 1e-6  # gradients at modes within that tolerance that the curvature leaves so large: one more step is taken
SLOW = 0.3  # steps that shrink more slowly than this want a fresh factor
MAX_MODE_STEPS = 2000  # hard problems take a hundred or two
ROWS_AT_ONCE = 4096
ROWS_PER_THREAD = 100_000  # with fewer, threads wait for each other longer than they work
DIFFERENCE, ONE_SIDED = 5e-4, 2e-5  # steps of the Hessian's differences, in standard errors
LARGE_BORDER = 600  # coefficients, from which on the dense factorisation is what an evaluation costs


class CrossedLikelihood(SeveralFactors):
    """Laplace log-likelihood of (beta, theta) for any number of factors: an `Engine` with `CostlyCurvature`.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    n_threads : int
    units : Units or None

    Attributes
    ----------
    n_evaluations : int
        So far, those for the Hessian included.
    """

    costly_curvature = True

    def __init__(self, observations, structure, n_threads=1, units=None):
        n_threads = min(n_threads, 1 + observations.y.size // ROWS_PER_THREAD)
        super().__init__(observations, structure, n_threads, units)
        self._blas = ThreadpoolController()
        self._order_factors()
        if not self.nested:
            ordered = [structure.factors[f] for f in self.order]
            check_memory([(factor.name, factor.n_levels) for factor in ordered], self.n_border)
        order = self._sort_rows()
        first = np.searchsorted(self.start[:-1], np.linspace(0, self.n_rows, MAX_CHUNKS + 1)[:-1])
        self.chunk = np.unique(np.append(first, [0, self.n_leaves])).astype(np.int64)
        self._take_rows(order)
        self._offset = self.sorted_offset(order)
        self._prior = None
        self.u = np.zeros((self.n_leaves, self.q))
        self.u_border = np.zeros(self.n_border)
        self._at = None  # parameters that u belongs to
        self._moves = None  # derivatives of u there
        self._fresh = False
        self.n_evaluations = 0

    # Layout -------------------------------------------------------------------------------------------------

    def _take_rows(self, order):
        X, y, w = self.observations.X, self.observations.y, self.observations.weights
        units, n, p, k = self.units, self.n_rows, self.units.p, self.n_fixed
        self.E = np.empty((n, self.n_params))  # derivatives of the linear predictor at fixed u: x, and z u for theta
        scaled, center = units.inv_scale[:p], units.center[:p]
        for first in range(0, n, ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            self.E[part, :p] = (X[part] if order is None else X[order[part]]) - center
            self.E[part, :p] *= scaled
        self.E[:, p:k] = 1.0

        def sorted_(values):
            return values if order is None else values[order]

        def column(c):
            a = self._coefficients[c]
            if units.columns[a] < 0:
                return np.ones(1)
            values = np.asarray(X[:, units.columns[a]], dtype=np.float64)
            return sorted_((values - units.z_center[a]) * units.z_inv_scale[a])

        self.z = [column(c) for c in range(self.T)]
        levels = [sorted_(rank[self.observations.codes[f]].astype(np.int32))
                  for f, rank in zip(self.order[1:], self.rank[1:], strict=True)]  # fmt: skip
        columns = [
            base + level * q + a
            for base, level, q in zip(self.base[:-1], levels, self.sizes[1:], strict=True)
            for a in range(q)
        ]
        self.column = np.array(columns, dtype=np.int32).reshape(self.T - self.q, n)
        y = np.ascontiguousarray(sorted_(y))
        w = None if w is None else np.ascontiguousarray(sorted_(w), dtype=np.float64)
        self._outcomes = y, w
        self.rows = CrossedRows(
            y, w, self.start, self.chunk, self.column, self.q, self.n_border, self.n_threads, self.structure.family.code
        )
        if self.nested:
            self.cholesky = TreeCholesky(self.parents, self.n_levels, self.sizes)
        else:
            self.cholesky = BorderedCholesky(
                self.start, self.q, levels, self.n_levels[1:], self.sizes[1:], self.n_threads
            )

    def _lambda(self, theta):
        """Lambda with its coefficients in the engine's order."""
        return self.covariance.lambda_(theta)[np.ix_(self._coefficients, self._coefficients)]

    def _scaled_z(self, Lambda):
        """t = Lambda'z."""
        t = []
        for a in range(self.T):
            total = np.zeros(1)
            for b in np.flatnonzero(Lambda[:, a]):
                total = total + Lambda[b, a] * self.z[b]
            t.append(np.ascontiguousarray(total))
        return t

    def _one_blas_thread(self):
        return self._blas.limit(limits=1, user_api="blas") if self._blas.lib_controllers else nullcontext()

    # Conditional modes --------------------------------------------------------------------------------------

    def _joint(self, fixed, t, u, u_border):
        """h(u) and its gradient."""
        s, s_border = np.empty_like(u), np.empty_like(u_border)
        value = self.rows.state(fixed, t, u, u_border, s, s_border)
        (d, d_border), (pull, pull_border) = self._pull(u, u_border)
        s -= pull
        s_border -= pull_border
        return value - 0.5 * (np.vdot(d, pull) + np.vdot(d_border, pull_border)), s, s_border

    def _pull(self, u, u_border):
        """Distances from the prior's means, and these times its precisions."""
        if self._prior is None:
            return (u, u_border), (u, u_border)
        mean, mean_border, precisions = self._prior
        d, d_border = u - mean, u_border - mean_border
        parts = np.split(d_border, self.base[1:-1])
        pulls = [
            np.einsum("nab,nb->na", precision, part.reshape(len(precision), -1)).ravel()
            for precision, part in zip(precisions, [d, *parts], strict=False)
        ]
        return (d, d_border), (pulls[0].reshape(d.shape), np.concatenate([*pulls[1:], np.zeros(0)]))

    def set_prior(self, mean, precision):
        """Another prior than N(0, I) for the effects of each level, to find posteriors with: lists by factor given."""
        means, precisions = [], []
        for f, position in enumerate(self.order):
            place = np.argsort(self.rank[f])
            means.append(mean[position][place])
            precisions.append(precision[position][place])
        self._prior = means[0], np.concatenate([*(m.ravel() for m in means[1:]), np.zeros(0)]), precisions
        self.cholesky.prior = precisions
        self.u, self.u_border = self._prior[0].copy(), self._prior[1].copy()

    def _factor(self, t):
        self.cholesky.factor(self.rows, self.rows.v, t)

    def _step(self, s, s_border):
        x, x_border = self.cholesky.solve(s[:, :, None], s_border[:, None])
        return x[:, :, 0], x_border[:, 0]

    def _find_modes(self, fixed, t):
        """Move u to the mode of h: Newton's method, with an old factor of the curvature while the steps shrink fast.

        The factor is then that of the mode: an old one, of a trial point far away, may call any step short.
        """
        u, u_border = self.u, self.u_border
        h, s, s_border = self._joint(fixed, t, u, u_border)
        if self._guess is not None:  # the modes move with the parameters, but not on straight lines
            trial = self._joint(fixed, t, *self._guess)
            if trial[0] > h:
                (u, u_border), (h, s, s_border) = self._guess, trial
            else:
                h, s, s_border = self._joint(fixed, t, u, u_border)  # once more: the rows remember the last call
        if not self._fresh:
            self._factor(t)
            self._fresh = True
        before, newton, here = np.inf, (np.inf, np.inf), False  # here: the factor is of this point
        for _ in range(MAX_MODE_STEPS):
            d, d_border = self._step(s, s_border)
            size = max(np.abs(d).max(initial=0.0), np.abs(d_border).max(initial=0.0))
            slope = float(np.vdot(d, s) + np.vdot(d_border, s_border))
            if not np.isfinite(slope):
                break
            largest = 1.0 + max(np.abs(u).max(initial=0.0), np.abs(u_border).max(initial=0.0))
            rounding = here and newton[1] < SETTLED_STEP and size > 0.5 * newton[0]
            near = size <= MODE_TOL * largest
            arrived = near or rounding
            if arrived and here:
                if near and max(np.abs(s).max(initial=0.0), np.abs(s_border).max(initial=0.0)) > STEEP:
                    u, u_border = u + d, u_border + d_border
                    h = self._joint(fixed, t, u, u_border)[0]
                self.u, self.u_border = u, u_border
                return h
            step = None
            if here or not arrived and size <= SLOW * before:
                step = self._go(fixed, t, (u, u_border, h), (d, d_border), slope, exact=here)
                if step is None:  # too long for an old factor
                    h, s, s_border = self._joint(fixed, t, u, u_border)
            if step is None:
                self._factor(t)
                here = True
                continue
            (u, u_border), (h, s, s_border), moved = step
            before, newton = size, (size, moved) if here else newton
            here = moved > SHORT_STEP
            if here:
                self._factor(t)
        self._fresh = False  # of a trial step too far the factor may hold NaN, which no later point should begin with
        raise FloatingPointError("a conditional mode was not found: is X or sample_weight extreme?")

    def _go(self, fixed, t, start, step, slope, exact):
        """Along a step as far as `_kernels/_search.h` says, if it is `exact`, Newton's.

        Returns where it leads, h and its gradient there, and how far a linear predictor moves at most; None for a long
        step that is not exact.
        """
        (u, u_border, h), (d, d_border) = start, step
        search, last, reach = Search(slope), 0.0, None
        while True:
            share = search.share
            at = u + share * d, u_border + share * d_border
            found = self._joint(fixed, t, *at)
            reach = self.rows.moved if reach is None else reach  # of the whole step: the first share is 1
            if share * reach <= SHORT_STEP:
                return at, found, share * reach
            if not exact:
                return None
            along = float(np.vdot(d, found[1]) + np.vdot(d_border, found[2]))
            curvature = float(np.vdot(d, d) + np.vdot(d_border, d_border)) + self.rows.bent / (share - last) ** 2
            if search.accepts(found[0] - h, along, curvature):
                return at, found, share * reach
            last = share

    # Value and derivatives ----------------------------------------------------------------------------------

    def evaluate(self, x, stride=1, rough=False):
        with self._one_blas_thread():
            return *self._evaluate(x), None

    def _evaluate(self, x):
        self.n_evaluations += 1
        x = np.asarray(x, dtype=np.float64)
        k, covariance = self.n_fixed, self.covariance
        self._guess = None
        if self._moves is not None:
            step = x - self._at
            self._guess = self.u + self._moves[0] @ step, self.u_border + self._moves[1] @ step
        self._moves = None
        t = self._scaled_z(self._lambda(x[k:]))
        fixed = self.E[:, :k] @ x[:k]
        if self._offset is not None:
            fixed += self._offset
        h = self._find_modes(fixed, t)
        value = h - 0.5 * self.cholesky.log_det
        self.cholesky.invert()
        theta = np.zeros((self.T, self.T))
        m, m_border = np.empty_like(self.u), np.empty_like(self.u_border)
        self.rows.leverages(t, self.z, *self.cholesky.needed_blocks(), theta, m, m_border)
        kappa, kappa_border = self._step(m, m_border)
        g = np.empty(self.n_rows)
        self.rows.gradients(t, self.z, self.u, self.u_border, np.ascontiguousarray(kappa), kappa_border, g, theta)
        gradient = np.empty(self.n_params)
        gradient[:k] = self.E[:, :k].T @ g
        self._log_det_gradient = gradient[:k] - self.E[:, :k].T @ self.rows.r  # h has r for g: u is its maximum
        gradient[k:] = theta[self._place[covariance.row], self._place[covariance.col]]
        self._at, self._t, self._gradient = x.copy(), t, gradient
        return float(value), gradient

    def information(self, x):
        """Exact in beta but for the log determinant, in theta the expectation level by level. Keeps the derivatives of
        the modes, too."""
        with self._one_blas_thread():
            return self._information(x)

    def _information(self, x):
        k, covariance, rows = self.n_fixed, self.covariance, self.rows
        m = self.n_params
        for entry in range(covariance.m):
            row, col = self._place[covariance.row[entry]], self._place[covariance.col[entry]]
            self.E[:, k + entry] = self.z[row] * self._coefficient(col)
        s = np.zeros((self.n_leaves * self.q, m))
        s_border = np.zeros((self.n_border, m))
        rows.sums(-rows.v, self._t, self.E, s, s_border)
        for entry in range(covariance.m):  # e_col R_row
            row, col = self._place[covariance.row[entry]], self._place[covariance.col[entry]]
            self._add_residuals(s, s_border, k + entry, row, col)
        moves, moves_border = self.cholesky.solve(s.reshape(self.n_leaves, self.q, m), s_border)
        moves = moves.reshape(-1, m)
        information = -(s.T @ moves) - s_border.T @ moves_border
        for first in range(0, self.n_rows, ROWS_AT_ONCE):
            E = self.E[first : first + ROWS_AT_ONCE]
            information += (E * rows.v[first : first + ROWS_AT_ONCE, None]).T @ E
        self._joint_information = information[:k, :k].copy()
        information[:k, k:] = information[k:, :k] = 0.0
        information[k:, k:] = self._expected(x[k:])
        self._moves = moves.reshape(self.n_leaves, self.q, m), moves_border
        return 0.5 * (information + information.T)

    def _coefficient(self, c):
        """u of coefficient c for every row."""
        if c < self.q:
            return np.repeat(self.u[:, c], np.diff(self.start))
        return self.u_border[self.column[c - self.q]]

    def _factor_of(self, c):
        """Which factor (leaf 0) coefficient c belongs to, and its place there."""
        first = np.append(0, np.cumsum(self.sizes))
        f = int(np.searchsorted(first, c, side="right")) - 1
        return f, c - first[f]

    def _level_sums(self, weight, row):
        """Sums of weight z_row over the levels of the factor that coefficient `row` belongs to."""
        values = np.broadcast_to(weight * self.z[row], weight.shape)
        f, a = self._factor_of(row)
        if f == 0:
            total = np.zeros(self.n_leaves)
            filled = np.diff(self.start) > 0
            total[filled] = np.add.reduceat(values, self.start[:-1][filled])
            return total
        level = (self.column[row - self.q] - self.base[f - 1] - a) // self.sizes[f]
        return np.bincount(level, weights=values, minlength=self.n_levels[f])

    def _add_residuals(self, s, s_border, entry, row, col):
        total = self._level_sums(self.rows.r, row)
        f, a = self._factor_of(col)
        if f == 0:
            s[a :: self.q, entry] += total
        else:
            s_border[self.base[f - 1] + a : self.base[f] : self.sizes[f], entry] += total

    def _expected(self, theta):
        """Expected information of theta in the distribution of the random effects, each level on its own.

        It is tr(P dG_l P dG_m) / 2 with G = Lambda Lambda' and P = Lambda^-T (I - Sigma) Lambda^-1, the inverse
        covariance of what the data say of a level.
        """
        covariance, Lambda = self.covariance, self._lambda(theta)
        first = np.append(0, np.cumsum(self.sizes))
        out = np.zeros((covariance.m, covariance.m))
        for f, q in enumerate(self.sizes):
            L = Lambda[first[f] : first[f + 1], first[f] : first[f + 1]].copy()
            L[np.diag_indices(q)] = np.where(np.abs(L.diagonal()) < 1e-3, 1e-3, L.diagonal())
            root = np.linalg.inv(L)
            P = root.T @ (np.eye(q) - self.cholesky.level_blocks(f)) @ root
            entries = [e for e in range(covariance.m) if self._factor_of(self._place[covariance.row[e]])[0] == f]
            for i, e in enumerate(entries):
                PdG = P @ self._covariance_change(L, e, first[f])
                for e2 in entries[: i + 1]:
                    value = 0.5 * np.einsum("nab,nba->", PdG, P @ self._covariance_change(L, e2, first[f]))
                    out[e, e2] = out[e2, e] = value
        return out

    def _covariance_change(self, L, entry, first):
        change = np.zeros_like(L)
        row, col = (self._place[c[entry]] - first for c in (self.covariance.row, self.covariance.col))
        change[row, :] = L[:, col]
        return change + change.T

    def hessian(self, x, information, active, rough=False):
        """Differences of the gradient, for whose steps `information` gives the scale.

        Columns of theta are central differences of the gradient; with LARGE_BORDER a short step to one side saves half.
        In the block of beta the part of h is known exactly, and the log determinant has so small a share that one
        side serves, too, in directions in which the information of h is the identity: nearly collinear columns keep
        their digits. `rough`: one side for theta, and in beta the part of h alone.
        """
        central = not rough and self.n_border < LARGE_BORDER
        k, scale = self.n_fixed, 1.0 / np.sqrt(np.maximum(np.diag(information), 4.0))
        out = np.zeros((self.n_params, self.n_params))
        start = self.u, self.u_border, self._moves, self._at
        at_x, whole_at_x, joint = self._log_det_gradient, self._gradient, self._joint_information

        def gradients(side):
            self.u, self.u_border, self._moves, self._at = start
            gradient = self._evaluate(side)[1]
            return gradient, self._log_det_gradient

        def along(i, step):
            side = x.copy()
            side[i] += step
            return side[i] - x[i], gradients(side)[0]

        with self._one_blas_thread():
            fixed = np.flatnonzero(active[:k])
            out[fixed, :k] = -joint[fixed]
            if fixed.size and not rough:
                root = _root(joint[np.ix_(fixed, fixed)], scale[fixed])
                change = np.empty((k, fixed.size))
                for a, direction in enumerate(np.linalg.inv(root)):
                    side = x.copy()
                    side[fixed] += ONE_SIDED * direction
                    change[:, a] = (gradients(side)[1] - at_x) / ONE_SIDED
                out[fixed, :k] += root @ change.T
            for i in k + np.flatnonzero(active[k:]):
                high, g_high = along(i, (DIFFERENCE if central else ONE_SIDED) * scale[i])
                low, g_low = along(i, -DIFFERENCE * scale[i]) if central else (0.0, whole_at_x)
                out[i] = (g_high - g_low) / (high - low)
        self.u, self.u_border, self._moves, self._at = start
        self._log_det_gradient, self._gradient = at_x, whole_at_x
        out[:k, k:] = out[k:, :k].T
        return 0.5 * (out + out.T)

    def move(self, x, step):
        """Large standard deviations that change much move as variances."""
        out = x + step
        k = self.n_fixed
        theta, change = x[k:], step[k:]
        much = self.covariance.diagonal & (np.abs(change) > 0.1 * np.abs(theta)) & (np.abs(theta) > 0.1)
        ratio = 1.0 + 2.0 * change[much] / theta[much]
        out[k:][much] = theta[much] * np.sqrt(np.clip(ratio, 0.1, 9.0))
        return out

    def _smoothed(self, x):
        with self._one_blas_thread():
            sd = np.sqrt(-2.0 * self.rows.c)
            r, v = averaged_rows(self.structure.family, self.rows.eta, sd, *self._outcomes, self.n_threads)
            s, s_border = np.zeros((self.n_leaves * self.q, 1)), np.zeros((self.n_border, 1))
            self.rows.sums(r, self._t, np.ones((self.n_rows, 1)), s, s_border)
            _, (pull, pull_border) = self._pull(self.u, self.u_border)
            self.cholesky.factor(self.rows, v, self._t)
            step, step_border = self._step(s.reshape(self.u.shape) - pull, s_border[:, 0] - pull_border)
            self.cholesky.invert()
        return self.u + step, self.u_border + step_border


def _root(information, scale):
    """L with L L' = information; of one that is not positive definite in numbers what `scale` alone says."""
    try:
        return np.linalg.cholesky(information)
    except np.linalg.LinAlgError:
        return np.diag(1.0 / scale)
