"""Standard deviations and partial correlations in the place of theta, where a prior of correlations asks for them.

A density of correlations is one of angles: of the entries of Lambda it has no limit where a standard deviation goes to
0, so that no parabola is near it there. A row of Lambda is a length, the standard deviation s, times a unit vector: of
the canonical partial correlations tanh(zeta_b) (Lewandowski, Kurowicka and Joe 2009), entry b is
tanh(zeta_b) times the product of sech(zeta_k), k < b, and the last one the product of all. In (s, zeta) everything is
smooth, s = 0 included, where the likelihood does not depend on zeta, and the LKJ density is separable,

    (eta - 1) log|R| = -2 (eta - 1) sum log cosh(zeta).
"""

from dataclasses import replace

import numpy as np

from sklmm.likelihood.penalised import Penalised

LARGEST = 15.0  # of zeta: a correlation of 1 - 2e-13


class Polar:
    """A penalised engine's climb in (fixed effects, s, zeta); an entry of theta has the place of its zeta or s.

    Parameters
    ----------
    engine : Penalised
        Without the penalties of correlations; its units leave columns of random slopes where they are.
    powers : ndarray of shape (m,)
        eta - 1 for entries below the diagonal of blocks with such a prior; NaN for all entries of other blocks.
    """

    def __init__(self, engine, powers):
        self.engine, self.covariance = engine, engine.covariance
        self.random = slice(engine.n_fixed, engine.n_fixed + engine.covariance.m)
        self.powers = np.where(np.isnan(powers), 0.0, powers)
        covariance, charted = engine.covariance, ~np.isnan(powers)
        self.rows = []  # entries of a row, the diagonal one last
        for a in range(covariance.q):
            entries = np.flatnonzero((covariance.row == a) & charted)
            if entries.size > 1:
                self.rows.append(entries[np.argsort(covariance.col[entries])])

    @classmethod
    def of(cls, engine):
        """That of a penalised engine; None without priors of correlations."""
        powers = [getattr(penalty, "powers", None) for penalty in engine.penalties]
        powers = [found for found in powers if found is not None]
        if not powers:
            return None
        others = [getattr(penalty, "without_correlations", penalty) for penalty in engine.penalties]
        return cls(Penalised(engine.engine, others), powers[0])

    @property
    def costly_curvature(self):
        return self.engine.costly_curvature

    @property
    def n_rows(self):
        return self.engine.n_rows

    def climb(self, x, climb, engine, settings):
        """The optimum of a climb from x, in the parameters of the engine with all its penalties.

        Parameters
        ----------
        x : ndarray
        climb : callable (engine, x, settings) -> Optimum
        engine : Penalised
        settings : dict
            Of the climb, in x.

        Raises
        ------
        FloatingPointError
            Where the climb is to be with correlations of -1 and 1.
        """
        held, give_up, snap = settings["held"], settings["give_up"], settings["snap"]
        for entries in self.rows:
            at = self.random.start + entries
            if held[at[-1]] and x[at[-1]] == 0.0 and x[at].any():
                raise FloatingPointError("the density of correlations of -1 and 1 is 0")
        own = {
            "snap": lambda z: self.from_x(snap(self.to_x(z))),
            "give_up": None if give_up is None else lambda z, value: give_up(self.to_x(z), value),
        }
        found = climb(self, self.from_x(x), settings | own)
        x = self.to_x(found.x)
        _, _, hessian = engine.evaluate(x)
        if hessian is None:
            hessian = engine.hessian(x, engine.information(x), ~held)
        found.report.n_full_passes += 1
        return replace(found, x=x, hessian=hessian, last_step=self.step_in_x(found.x, found.last_step))

    # Coordinates -------------------------------------------------------------------------------------------------

    def to_x(self, z):
        """The engine's parameters."""
        x = z.copy()
        x[self.random] = self._of_rows(z[self.random], 0)[0]
        return x

    def from_x(self, x):
        """(fixed effects, s, zeta) of the engine's parameters; 0 for the zeta of rows that are 0."""
        z, theta = x.copy(), x[self.random]
        for entries in self.rows:
            row, left = theta[entries], np.sum(theta[entries] ** 2)
            z[self.random][entries] = 0.0
            if left == 0.0:
                continue
            z[self.random.start + entries[-1]] = np.copysign(np.sqrt(left), row[-1])
            row = np.copysign(1.0, row[-1]) * row / np.sqrt(left)
            left = 1.0
            for entry, w in zip(entries[:-1], row, strict=False):
                size = np.tanh(LARGEST)
                z[self.random.start + entry] = np.arctanh(np.clip(w / np.sqrt(max(left, 1e-300)), -size, size))
                left -= w**2
        return z

    def _of_rows(self, phi, order):
        """theta, and up to the order d theta / d phi and d2 theta / d phi d phi."""
        m = phi.size
        theta = phi.copy()
        J = np.eye(m) if order > 0 else None
        second = np.zeros((m, m, m)) if order > 1 else None
        for entries in self.rows:
            s, zeta, k = phi[entries[-1]], phi[entries[:-1]], entries.size - 1
            T, S = np.tanh(zeta), 1.0 / np.cosh(zeta)
            # the unit vector's entry b is a product over k of one function of each zeta: sech, then tanh, then 1
            of = np.ones((3, k + 1, k))
            for b in range(k + 1):
                of[0, b, :b], of[1, b, :b], of[2, b, :b] = S[:b], -(S * T)[:b], (S * (T**2 - S**2))[:b]
                of[1:, b, b:] = 0.0
                if b < k:
                    of[:, b, b] = T[b], S[b] ** 2, -2.0 * T[b] * S[b] ** 2
            w = of[0].prod(axis=1)
            theta[entries] = s * w
            if order < 1:
                continue
            first = np.array([[_product(of, b, (c,)) for c in range(k)] for b in range(k + 1)]).reshape(k + 1, k)
            J[np.ix_(entries, entries[:-1])] = s * first
            J[entries, entries[-1]] = w
            if order < 2:
                continue
            for b, entry in enumerate(entries):
                for c in range(k):
                    second[entry, entries[c], entries[-1]] = second[entry, entries[-1], entries[c]] = first[b, c]
                    for d in range(k):
                        second[entry, entries[c], entries[d]] = s * _product(of, b, (c, d))
        return theta, J, second

    # The function --------------------------------------------------------------------------------------------------

    def evaluate(self, z, stride=1, rough=False):
        """Value, gradient and Hessian (None where that is costly), those of correlations included."""
        value, gradient, hessian = self.engine.evaluate(self.to_x(z), stride, rough)
        self._gradient = gradient
        zeta, powers = z[self.random], self.powers / stride
        value -= 2.0 * np.sum(powers * (np.logaddexp(zeta, -zeta) - np.log(2.0)))
        J, bend = self._map(z, gradient)
        of_z = J.T @ gradient
        of_z[self.random] -= 2.0 * powers * np.tanh(zeta)
        if hessian is not None:
            hessian = J.T @ hessian @ J + bend - self._information(z) / stride
        return value, of_z, hessian

    def information(self, z):
        """A guess of minus the Hessian where `evaluate` was last."""
        self._of_x = self.engine.information(self.to_x(z))
        J, bend = self._map(z, self._gradient)
        return J.T @ self._of_x @ J - bend + self._information(z)

    def hessian(self, z, information, active, rough=False):
        """The Hessian there."""
        J, bend = self._map(z, self._gradient)
        found = self.engine.hessian(self.to_x(z), self._of_x, active, rough)
        return J.T @ found @ J + bend - self._information(z)

    def move(self, z, step):
        """z + step."""
        return z + step

    def _map(self, z, gradient):
        """d x / d z, and what the gradient adds to the Hessian as that changes."""
        at, J, bend = self.random, np.eye(z.size), np.zeros((z.size, z.size))
        _, J[at, at], second = self._of_rows(z[at], 2)
        bend[at, at] = np.tensordot(gradient[at], second, 1)
        return J, bend

    def _information(self, z):
        """Of the density of correlations."""
        out = np.zeros((z.size, z.size))
        at = np.arange(z.size)[self.random]
        out[at, at] = 2.0 * self.powers / np.cosh(z[self.random]) ** 2
        return out

    def step_in_x(self, z, step):
        """A step in the engine's parameters, to first order."""
        J, _ = self._map(z, np.zeros_like(z))
        return J @ step


def _product(of, b, differentiated):
    """Of entry b the product over the zetas, those at some positions differentiated, as often as they are there."""
    order = np.bincount(differentiated, minlength=of.shape[2])
    return np.prod(of[order, b, np.arange(of.shape[2])])
