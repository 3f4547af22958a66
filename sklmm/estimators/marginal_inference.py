"""Inference of the marginal model beyond Wald's: the methods that `GEELogisticRegression` gets from here."""

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.grouping import encode_groups
from sklmm.design.observations import read_times
from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.estimators.rows_of_fit import read_rows_of_fit
from sklmm.inference.bootstrap import MarginalRefit, bootstrap, check_resampling


class MarginalInference:
    """Mixin: the bootstrap of clusters, which takes the rows of the fit."""

    def conf_int(
        self, level=0.95, method="wald", *, X=None, y=None, groups=None, sample_weight=None, time=None, **resampling
    ):
        """Confidence intervals of the coefficients.

        Parameters
        ----------
        level : float, default=0.95
        method : {"wald", "bootstrap"}, default="wald"
            "wald": from the standard errors of the fit's `cov_type`. "bootstrap": quantiles of estimates from resampled
            clusters, see the method `bootstrap`; it fits the model again and needs the rows of the fit. There is no
            "profile": estimating equations have no likelihood.
        X, y, groups, sample_weight, time
            The rows of the fit, as `fit` got them; for "bootstrap" only.
        **resampling
            For "bootstrap" only: `n_resamples`, `random_state`, `n_jobs` and `verbose`, see the method `bootstrap`, and
            `kind`, see `BootstrapResult.conf_int`.

        Returns
        -------
        intervals : DataFrame
            A row a coefficient, columns "lower" and "upper".
        """
        check_is_fitted(self)
        if method == "profile":
            raise ValueError(
                "method='profile' needs a likelihood, which estimating equations do not have; use 'wald' or 'bootstrap'"
            )
        if method not in ("wald", "bootstrap"):
            raise ValueError(f"method must be 'wald' or 'bootstrap', got {method!r}")
        if method == "wald":
            if resampling:
                raise TypeError(f"method='wald' takes no {', '.join(resampling)}")
            return super().conf_int(level)
        kind = {"kind": resampling.pop("kind")} if "kind" in resampling else {}
        return self.bootstrap(X, y, groups, sample_weight, time, **resampling).conf_int(level, **kind)

    def bootstrap(
        self,
        X=None,
        y=None,
        groups=None,
        sample_weight=None,
        time=None,
        *,
        n_resamples=1000,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        """Refit the model to whole groups drawn with replacement (without groups: to rows).

        Parameters
        ----------
        X, y, groups, sample_weight, time
            The rows of the fit, as `fit` got them.
        n_resamples : int, default=1000
        random_state : int, SeedSequence, Generator, RandomState or None, default=None
            The results depend on it alone, whatever `n_jobs`.
        n_jobs : int or None, default=None
            Processes, as joblib counts them: None is 1 outside a joblib context, -1 all.
        verbose : int, default=0
            1 prints how many resamples are done.

        Returns
        -------
        result : BootstrapResult
            With `estimates`, `std_errors()`, `bias()` and `conf_int()`.
        """
        check_is_fitted(self)
        check_resampling("cluster", n_resamples)
        rows, structure = self._rows_of_fit(X, y, groups, sample_weight, time)
        names, beta, vcov = self._fixed_effects()
        settings = {
            "correlation": self._fitted.correlation,
            "fit_intercept": self._fitted.fit_intercept,
            "dispersion": float(self.dispersion_) if self._fitted.dispersion_is_fixed else None,
            "ddof_correction": self._fitted.ddof_correction,
            **self._settings_of_refits(n_jobs),
        }
        original = np.where(np.isnan(np.diagonal(vcov)), np.nan, beta)
        return bootstrap(
            MarginalRefit(rows, structure, settings),
            pd.Series(original, index=[str(name) for name in names]),
            "cluster",
            n_resamples=n_resamples,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )

    def _rows_of_fit(self, X, y, groups, sample_weight, time):
        """The rows of the fit, passed once more, and their groups: checked and coded as `fit` did."""
        needs_time = self._fitted.correlation.uses_time and self._fitted.time_column is None and self._fitted.had_times
        rows, target, weights = read_rows_of_fit(self, "bootstrap", X, y, groups, sample_weight, time, needs_time)
        code_of, factors = [], []
        if self.n_groups_:
            name, labels = next(iter(rows.groups.items()))
            codes, levels = encode_groups(labels, name)
            code_of.append(codes)
            factors.append(FactorStructure(len(levels), [], [], name))
        times = None if rows.time is None or not self._fitted.correlation.uses_time else read_times(rows.time)
        return Observations(rows.X, target, code_of, weights, times), Structure(factors)
