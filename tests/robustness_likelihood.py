"""The log-likelihood of a mixed logistic model, written anew from its definition, with nothing of the package in it.

Laplace's approximation for any number of factors, and adaptive Gauss-Hermite quadrature for one. Conditional modes are
found by a damped Newton's method; rows are summed with NumPy. The levels of the factor that has the most (the leaf) are
eliminated all at once; what the others (the border) then have in common is one dense matrix.
"""

import itertools

import numpy as np
from scipy.special import expit

MODE_TOL = 3e-8  # of a Newton step for the modes, after which they are right to its square, nearly
NEAR = 0.5  # a step that moves no linear predictor further than this need not be checked
LEAST = 1e-10  # share of the bound of the curvature, that a step begins to be damped with
FIRST_STEPS, MOST_STEPS = 50, 1000


def log_expit_and_rest(x):
    """log expit(x) and expit(-x), from one exponential."""
    e = np.exp(-np.abs(x))
    return np.minimum(x, 0.0) - np.log1p(e), np.where(x > 0, e, 1.0) / (1.0 + e)


class Term:
    """Random coefficients of one factor: codes (n,), columns Z (n, q), and which entries of Lambda are parameters."""

    def __init__(self, codes, Z, correlated):
        self.codes, self.Z, self.q = codes, Z, Z.shape[1]
        self.n_levels = int(codes.max()) + 1
        entries = np.tril_indices(self.q) if correlated else (np.arange(self.q),) * 2
        self.row, self.col = entries

    def take(self, rows):
        return Term(self.codes[rows], self.Z[rows], self.row.size > self.q or self.q == 1)

    def factor(self, theta):
        Lambda = np.zeros((self.q, self.q))
        Lambda[self.row, self.col] = theta
        return Lambda


class LogLikelihood:
    """Log-likelihood of x = (gamma, theta): eta = F gamma + sum Z Lambda(theta) u, u standard normal.

    Attributes
    ----------
    k, n_params : number of fixed effects, of all parameters.
    q : random coefficients of a level of the leaf.
    """

    def __init__(self, y, weights, fixed, terms, nodes=1):
        leaf = max(range(len(terms)), key=lambda f: terms[f].n_levels * terms[f].q)
        order = np.argsort(terms[leaf].codes, kind="stable")
        self.sign, self.w, self.y = (2.0 * y - 1)[order], weights[order], y[order].astype(float)
        self.F = fixed[order]
        terms = [term.take(order) for term in terms]
        self.k, self.terms, self.leaf = fixed.shape[1], terms, leaf
        self.bounds = np.cumsum([self.k] + [term.row.size for term in terms])
        self.n_params = int(self.bounds[-1])
        self.q, self.n_levels, self.code = terms[leaf].q, terms[leaf].n_levels, terms[leaf].codes
        self.start = np.flatnonzero(np.diff(self.code, prepend=-1))  # every level has rows
        self.border = [term for f, term in enumerate(terms) if f != leaf]
        self.m = sum(term.n_levels * term.q for term in self.border)
        first = np.cumsum([0] + [term.n_levels * term.q for term in self.border])
        if self.border:
            self.column = np.concatenate(
                [b + t.codes[:, None] * t.q + np.arange(t.q) for b, t in zip(first, self.border, strict=False)], axis=1
            )
        # rows that are alike in what multiplies their random effects
        alike = [self.code, *(term.codes for term in self.border)]
        alike += [term.Z[:, a] for term in terms for a in range(term.q) if np.ptp(term.Z[:, a]) > 0]
        _, self.cells, self.cell = np.unique(np.column_stack(alike), axis=0, return_index=True, return_inverse=True)
        self.cell = self.cell.ravel()
        zeta, w = np.polynomial.hermite.hermgauss(nodes)
        log_w = np.log(w / np.sqrt(np.pi)) + zeta**2
        self.nodes = np.array(list(itertools.product(zeta, repeat=self.q)))
        self.log_w = np.array([sum(part) for part in itertools.product(log_w, repeat=self.q)])
        self.laplace = nodes == 1
        self.u, self.ub = np.zeros((self.n_levels, self.q)), np.zeros(self.m)
        self.factors = [np.zeros((term.q, term.q)) for term in terms]
        self._were_found = False
        self.blur = 1.0  # b: of b log p(eta / b), in place of log p(eta), on the way to modes

    # ---- sums

    def _sums(self, values):
        """Sums of rows' values by level of the leaf."""
        return np.add.reduceat(values, self.start, axis=0)

    def _move(self, d, db):
        """What random effects add to the linear predictor."""
        eta = (self.T * d[self.code]).sum(axis=1) if d.shape[1] > 1 else self.T[:, 0] * d[self.code, 0]
        return eta + np.einsum("nb,nb->n", self.Tb, db[self.column]) if self.m else eta

    def _residual(self, eta):
        return self.w * self.sign * expit(-self.sign * eta / self.blur)

    def _score(self, r, u, ub):
        s = self._sums(r[:, None] * self.T) - u
        sb = self._border_sums(r[:, None] * self.Tb) - ub if self.m else ub
        return s, sb

    def _border_sums(self, values):
        return np.bincount(self.column.ravel(), values.ravel(), minlength=self.m)

    def _log_rows(self, eta):
        return self.w * self.blur * log_expit_and_rest(self.sign * eta / self.blur)[0]

    # ---- modes

    def _factorise(self, v):
        """H = [[D, B], [B', C]]: D^-1, B, S^-1, log|H|."""
        q = self.T.shape[1]
        vT = v[:, None] * self.T
        D = self._sums(vT[:, :, None] * self.T[:, None, :]) + np.eye(q)
        if q == 1:
            self.Dinv, log_det = 1.0 / D, np.log(D).sum()
        else:
            self.Dinv, log_det = np.linalg.inv(D), np.linalg.slogdet(D)[1].sum()
        if self.m:
            L, m = len(D), self.m
            place = (self.code[:, None] * q + np.arange(q))[:, :, None] * m + self.column[:, None, :]
            B = np.bincount(place.ravel(), (vT[:, :, None] * self.Tb[:, None, :]).ravel(), minlength=L * q * m)
            self.B = B.reshape(L, q, m)
            place = self.column[:, :, None] * m + self.column[:, None, :]
            products = v[:, None, None] * self.Tb[:, :, None] * self.Tb[:, None, :]
            C = np.bincount(place.ravel(), products.ravel(), m * m)
            self.K = self.Dinv @ self.B
            S = C.reshape(m, m) + np.eye(m) - self.B.reshape(-1, m).T @ self.K.reshape(-1, m)
            self.Sinv = np.linalg.inv(S)
            log_det += np.linalg.slogdet(S)[1]
        return D, log_det

    def _solve(self, s, sb):
        d = self.Dinv[:, 0] * s if s.shape[1] == 1 else np.einsum("lij,lj->li", self.Dinv, s)
        if not self.m:
            return d, sb
        db = self.Sinv @ (sb - self.B.reshape(-1, self.m).T @ d.ravel())
        return d - self.K @ db, db

    def _modes(self, eta0):
        """Conditional modes; eta, H's leaf blocks and log|H| there."""
        if not self._were_found:
            self.u, self.ub = np.zeros_like(self.u), np.zeros_like(self.ub)
        self._were_found = False
        try:
            found = self._newton(eta0, FIRST_STEPS)
        except ArithmeticError:  # on a path from log-likelihoods that bend as slowly as linear predictors are large
            self.u, self.ub = np.zeros_like(self.u), np.zeros_like(self.ub)
            loads = max((self.T**2).sum(axis=1).max(), (self.Tb**2).sum(axis=1).max() if self.m else 0.0)
            try:
                most = max(self.w.max() * loads, np.abs(eta0).max(), 1.0)
                for k in range(int(np.ceil(np.log2(most))), -1, -1):
                    self.blur = 2.0**k
                    found = self._newton(eta0, MOST_STEPS)
            finally:
                self.blur = 1.0
        self._were_found = True
        return found

    def _newton(self, eta0, most_steps):
        """Conditional modes from where they were last; eta, H's leaf blocks and log|H| there.

        Newton's method. Where a step leads down, curvatures are moved towards those of a quadratic function that lies
        below and touches (Jaakkola and Jordan 2000), whose maximum is never down.
        """
        u, ub = self.u, self.ub
        eta = eta0 + self._move(u, ub)
        h, border = self._heights(eta, u, ub)
        damped, done = np.zeros(len(u)), False
        for _ in range(most_steps):
            r = self._residual(eta)
            v = np.abs(r) * expit(self.sign * eta / self.blur) / self.blur
            if damped.any() and not done:
                far = np.maximum(np.abs(eta), 1e-8)
                v = v + damped[self.code] * (self.w * np.tanh(0.5 * far / self.blur) / (2 * far) - v)
            D, log_det = self._factorise(v)
            if done:
                break
            s, sb = self._score(r, u, ub)
            d, db = self._solve(s, sb)
            size = np.abs(d).max() / (1 + np.abs(u).max())
            done = max(size, np.abs(db).max(initial=0) / (1 + np.abs(ub).max(initial=0))) < MODE_TOL
            if done and damped.max() > 1e-3:  # a damped step may be short far from the mode: only Newton's own tells
                damped, done = np.zeros(len(u)), False
                continue
            delta = self._move(d, db)
            there = self._heights(eta + delta, u + d, ub + db)
            rose = there[0] >= h - 1e-9 * (1 + np.abs(h))
            all_rose = there[0].sum() + there[1] >= h.sum() + border - 1e-9 * (1 + abs(h.sum()))
            if done or np.abs(delta).max() < NEAR:
                all_rose, rose = True, np.ones_like(rose)
            if all_rose if self.m else rose.all():
                u, ub, eta, (h, border) = u + d, ub + db, eta + delta, there
            elif self.m:  # all together: part of the way
                a = self._length(eta, delta, u, ub, d, db, s, sb)
                u, ub, eta = u + a * d, ub + a * db, eta + a * delta
                h, border = self._heights(eta, u, ub)
                if rose.all():
                    rose = ~rose
            else:
                u, h = np.where(rose[:, None], u + d, u), np.where(rose, there[0], h)
                eta = np.where(rose[self.code], eta + delta, eta)
            less, more = np.where(damped > LEAST, damped / 8, 0.0), np.clip(20 * damped, LEAST, 1.0)
            damped = np.where(rose, less, more) if not done else damped
        else:
            raise ArithmeticError(f"the judge's modes did not settle: the last step was {size:.1e} long")
        self.u, self.ub = u, ub
        return eta, D, log_det

    def _length(self, eta, delta, u, ub, d, db, s, sb):
        """A share of a step at which the slope along it, which falls from a positive number, is small or positive."""
        slope0, dd, du = (s * d).sum() + sb @ db, (d * d).sum() + db @ db, (u * d).sum() + ub @ db
        low, high, a = 0.0, 1.0, 0.5
        for _ in range(60):
            slope = self._residual(eta + a * delta) @ delta - du - a * dd
            if abs(slope) <= 0.3 * slope0:
                break
            low, high = (a, high) if slope > 0 else (low, a)
            a = 0.5 * (low + high)
        return a

    def _heights(self, eta, u, ub):
        """What the modes maximise: by level of the leaf, and the border's part."""
        return self._sums(self._log_rows(eta)) - 0.5 * (u**2).sum(axis=1), -0.5 * float(ub @ ub)

    # ---- value and gradient

    def parameters(self, x):
        thetas = np.split(x[self.k :], self.bounds[1:-1] - self.k)
        return x[: self.k], thetas

    def _begin(self, x):
        gamma, thetas = self.parameters(x)
        factors = [term.factor(theta) for term, theta in zip(self.terms, thetas, strict=True)]
        self._keep_effects(factors)
        self.T = self.terms[self.leaf].Z @ factors[self.leaf]
        others = [term.Z @ factors[f] for f, term in enumerate(self.terms) if f != self.leaf]
        self.Tb = np.concatenate(others, axis=1) if others else None
        eta0 = self.F @ gamma
        return eta0, *self._modes(eta0)

    def _keep_effects(self, factors):
        """Begin with the random effects that were the modes before, if the standard deviations have grown since."""
        first = 0
        for f, term in enumerate(self.terms):
            old, new = (np.sqrt(np.diag(Lambda @ Lambda.T)) for Lambda in (self.factors[f], factors[f]))
            share = np.where(new > old, old / np.maximum(new, 1e-300), 1.0)
            if f == self.leaf:
                self.u = self.u * share
            else:
                own = slice(first, first + term.n_levels * term.q)
                self.ub[own] *= np.tile(share, term.n_levels)
                first = own.stop
        self.factors = factors

    def value(self, x):
        eta0, eta, D, log_det = self._begin(x)
        if self.laplace:
            return self._log_rows(eta).sum() - 0.5 * ((self.u**2).sum() + self.ub @ self.ub + log_det)
        return self._quadrature(eta0, D, False)[0]

    def value_and_gradient(self, x):
        eta0, eta, D, log_det = self._begin(x)
        if not self.laplace:
            return self._quadrature(eta0, D, True)
        value = self._log_rows(eta).sum() - 0.5 * ((self.u**2).sum() + self.ub @ self.ub + log_det)
        return value, self._laplace_gradient(eta)

    def _laplace_gradient(self, eta):
        """h(u) - log|H| / 2 differentiated, the moves of the modes included (implicit differentiation)."""
        p = expit(self.sign * eta)
        r = self.w * self.sign * (1 - p)
        v = self.w * p * (1 - p)
        v1 = v * (1 - 2 * p) * self.sign
        y_leaf, y_border = self._inverse_times_rows()
        a = (y_leaf * self.T).sum(axis=1)
        if self.m:
            a = a + (y_border * self.Tb).sum(axis=1)
        pull = -0.5 * v1 * a
        kappa, kappa_b = self._solve(
            self._sums(pull[:, None] * self.T), self._border_sums(pull[:, None] * self.Tb) if self.m else self.ub
        )
        g = r + pull - v * self._move(kappa, kappa_b)
        out = np.empty(self.n_params)
        out[: self.k] = self.F.T @ g
        column = 0
        for f, term in enumerate(self.terms):
            part = slice(self.bounds[f], self.bounds[f + 1])
            if f == self.leaf:
                u, kap, y_own = self.u[self.code], kappa[self.code], y_leaf
            else:
                own = slice(column, column + term.q)
                u, kap, y_own = self.ub[self.column[:, own]], kappa_b[self.column[:, own]], y_border[:, own]
                column += term.q
            inner = g[:, None] * u - v[:, None] * y_own + r[:, None] * kap
            out[part] = (term.Z.T @ inner)[term.row, term.col]
        return out

    def _inverse_times_rows(self):
        """H^-1 t of each row, on the row's own coefficients: of the leaf, of the border."""
        code, T = self.code[self.cells], self.T[self.cells]
        own = (self.Dinv[code] @ T[:, :, None])[:, :, 0]
        if not self.m:
            return own[self.cell], None
        column, Tb = self.column[self.cells], self.Tb[self.cells]
        K = self.K[code]
        W = -(T[:, None, :] @ K)[:, 0]
        rows = np.arange(len(code))
        for b in range(column.shape[1]):
            W[rows, column[:, b]] += Tb[:, b]
        V = W @ self.Sinv
        own = own - (K @ V[:, :, None])[:, :, 0]
        return own[self.cell], np.take_along_axis(V, column, axis=1)[self.cell]

    def _quadrature(self, eta0, D, with_gradient):
        """Adaptive quadrature at the modes (Liu and Pierce 1994): nodes u + sqrt(2) L'^-1 zeta, H = LL'."""
        L = np.linalg.cholesky(D)
        spread = np.sqrt(2) * np.swapaxes(np.linalg.inv(L), 1, 2)
        u = self.u[:, None, :] + self.nodes @ np.swapaxes(spread, 1, 2)
        eta = eta0[:, None] + (u[self.code] @ self.T[:, :, None])[:, :, 0]
        log_p, fail = log_expit_and_rest(self.sign[:, None] * eta)
        F = self._sums(self.w[:, None] * log_p) - 0.5 * (u**2).sum(axis=2)
        log_parts = self.log_w + F
        top = log_parts.max(axis=1)
        parts = np.exp(log_parts - top[:, None])
        total = parts.sum(axis=1)
        values = top + np.log(total)
        value = values.sum() - np.log(np.diagonal(L, axis1=1, axis2=2)).sum()
        if not with_gradient:
            return value, None
        # the nodes move with the modes and with L; C is the derivative with respect to H
        share = parts / total[:, None]
        M = np.swapaxes(np.linalg.inv(L), 1, 2)
        r = (self.w * self.sign)[:, None] * fail
        score = self._sums(r[:, :, None] * self.T[:, None, :]) - u  # dF / du at the nodes
        weighted = share[:, :, None] * score
        Y = np.swapaxes(weighted.transpose(0, 2, 1) @ self.nodes, 1, 2)  # sum of zeta score'
        P = np.tril(np.swapaxes(L, 1, 2) @ (-np.sqrt(2) * M @ Y @ M - M))
        P[:, np.arange(self.q), np.arange(self.q)] /= 2
        C = M @ (P + np.swapaxes(P, 1, 2)) @ np.swapaxes(M, 1, 2) / 2

        p = expit(self.sign * (eta0 + self._move(self.u, self.ub)))
        v, r0 = self.w * p * (1 - p), self.w * self.sign * (1 - p)
        v1 = v * (1 - 2 * p) * self.sign
        Ct = (C[self.code] @ self.T[:, :, None])[:, :, 0]
        pull = v1 * (Ct * self.T).sum(axis=1)
        kappa, _ = self._solve(weighted.sum(axis=1) + self._sums(pull[:, None] * self.T), self.ub)
        pull = pull - v * self._move(kappa, self.ub)
        rows = share[self.code] * r
        term, own = self.terms[0], self.code
        inner = (rows[:, None, :] @ u[own])[:, 0] + pull[:, None] * self.u[own] + 2 * v[:, None] * Ct
        inner += r0[:, None] * kappa[own]
        return value, np.append(self.F.T @ (rows.sum(axis=1) + pull), (term.Z.T @ inner)[term.row, term.col])

    def hessian(self, x, gradient=None):
        """Differences of the gradient: forward ones if it is known at x, else central ones, which are more accurate."""
        rows = []
        for j, unit in enumerate(np.eye(x.size)):
            if gradient is None:
                h = 1e-4 * max(1.0, abs(x[j]))
                high, low = (self.value_and_gradient(x + move * unit)[1] for move in (h, -h))
                rows.append((high - low) / (2 * h))
            else:
                h = 1e-5 * max(1.0, abs(x[j]))
                rows.append((self.value_and_gradient(x + h * unit)[1] - gradient) / h)
        rows = np.array(rows)
        return 0.5 * (rows + rows.T)
