"""The user's parameters and the engines': columns of X are centred and scaled, random-effect columns scaled, so that
neither conditioning nor starting values depend on units."""

import numpy as np

from sklmm.design.standardising import column_scales, natural_map, row_sample


class Units:
    """Base of the engines: translates between natural and internal parameters.

    Internal parameters are the slopes, the intercept if there is one, and theta. An engine sets `p`, `fit_intercept`,
    `n_fixed`, `n_params`, `columns` and `covariance`, and then calls `_scale_columns`.
    """

    def _scale_columns(self, X, sample_weight, standardise):
        p = X.shape[1]
        self._z_center, self._z_inv_scale = np.zeros(self.columns.size), np.ones(self.columns.size)
        if not standardise or p == 0:
            padded = max(8, (p + 7) // 8 * 8)
            self._center, self._inv_scale = np.zeros(padded), np.zeros(padded)
            self._inv_scale[:p] = 1.0
            return
        sample, share = row_sample(X, sample_weight)
        self._center, self._inv_scale = column_scales(sample, share, self.fit_intercept)
        size = np.sqrt(share @ sample**2)
        for block, correlated in self.covariance.blocks:
            columns = self.columns[block]
            # beside a correlated intercept a slope may be counted from anywhere: it is the same model
            # (from the mean of all rows: quadrature's error, though not the model, depends on it)
            centred = correlated and (columns < 0).any()
            for a, column in enumerate(columns, start=block.start):
                if column < 0:
                    continue
                center = np.average(X[:, column], weights=sample_weight) if centred else 0.0
                scale = np.sqrt(share @ (sample[:, column] - center) ** 2)
                if scale > 1e-12 * size[column]:
                    self._z_center[a], self._z_inv_scale[a] = center, 1.0 / scale

    def _fixed_map(self):
        """d(natural)/d(internal) of the fixed effects; natural are the intercept, if any, and the slopes."""
        return natural_map(self._center, self._inv_scale, self.p, self.fit_intercept)

    def _random_map(self):
        """Natural random coefficients from internal ones, (q, q)."""
        T = np.diag(self._z_inv_scale)
        for block, _ in self.covariance.blocks:
            intercept = block.start + np.flatnonzero(self.columns[block] < 0)
            T[intercept, block] -= (self._z_center * self._z_inv_scale)[block]
        return T

    def jacobian(self, x):
        """d(natural)/d(internal) at x; natural are the intercept if any, the slopes and theta, in the user's units."""
        J = np.zeros((self.n_params, self.n_params))
        J[: self.n_fixed, : self.n_fixed] = self._fixed_map()
        T = self._random_map()
        factor = T @ self.covariance.lambda_(x[self.n_fixed :])
        for entry in range(self.covariance.m):
            change = T @ self.covariance.lambda_(np.eye(self.covariance.m)[entry])
            J[self.n_fixed :, self.n_fixed + entry] = self.covariance.normal_jacobian(factor, change)
        return J

    def natural(self, x):
        """(beta, theta) in the user's units."""
        covariance, T = self.covariance, self._random_map()
        Lambda = covariance.lambda_(x[self.n_fixed :])
        if np.triu(T, 1).any():  # quadrature's value depends on the factor, which `internal` is to find again
            Lambda = covariance.with_pivots(Lambda)
        Lambda = covariance.normal_form(T @ Lambda)
        return self._fixed_map() @ x[: self.n_fixed], Lambda[covariance.row, covariance.col]

    def internal(self, beta, theta):
        """Internal parameters of (beta, theta)."""
        covariance = self.covariance
        Lambda = covariance.normal_form(np.linalg.solve(self._random_map(), covariance.lambda_(theta)))
        return np.append(np.linalg.solve(self._fixed_map(), beta), Lambda[covariance.row, covariance.col])
