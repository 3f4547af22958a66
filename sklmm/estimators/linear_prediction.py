"""Predictions of linear mixed models with their errors, residuals, new outcomes, new groups."""

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklmm.design.grouping import lookup_codes
from sklmm.design.structure import Structure
from sklmm.estimators.mixed_prediction import warn_of_forgotten, with_levels
from sklmm.estimators.reading import nan_where_incomplete
from sklmm.estimators.rows_of_fit import check_precision
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.wald import check_level
from sklmm.likelihood.linear_fit import effects_given_fit
from sklmm.passes.threads import effective_threads
from sklmm.prediction.linear import NumberPredictor, degrees_of_predictions, quantiles
from sklmm.prediction.simulation import rows_to_simulate, simulated_predictors

EFFECTS = ("posterior", "zero")
KINDS = ("mean", "observation")
DETERMINED = 1e-8  # the share of a residual's variance that is rounding error


class LinearPrediction:
    """Mixin: what is expected of rows of known and new groups, from the stored tables of random effects."""

    @nan_where_incomplete
    def predict(
        self,
        X,
        groups=None,
        *,
        offset=None,
        precision_weight=None,
        predict_effects=None,
        return_std=False,
        include=None,
    ):
        """Expected outcomes of rows, in their groups where these are known.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `fit`. A label that is missing, or that fit did not see, is an unknown group, whose effects are 0.
        offset : array-like of shape (n_samples,), default=None
            What is added to the linear predictor, for a model whose fit got one in this way.
        precision_weight : array-like of shape (n_samples,), default=None
            What the residual variance of new outcomes is divided by, for `return_std`; None is the column that the
            model knows, if there is one, else 1.
        predict_effects : {"posterior", "zero"}, default=None
            Overrides the parameter of the same name.
        return_std : bool, default=False
            Whether to return standard deviations of new outcomes, too: of the residual, the effects of the group and
            the errors of estimates together.
        include : None, str or list of str, default=None
            The grouping factors whose groups count, such as ["school"]; rows are of unknown groups of all others. None:
            all; []: none.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Only if `return_std`.
        """
        rows = X, groups, offset, precision_weight
        if not return_std:
            return self._predicted(*rows, predict_effects, include)[0]
        mean, variance, _, precision = self._with_errors(*rows, predict_effects, include)
        return mean, np.sqrt(variance + self._fitted.sigma**2 / precision)

    @nan_where_incomplete
    def predict_interval(
        self,
        X,
        groups=None,
        level=0.95,
        kind="mean",
        *,
        offset=None,
        precision_weight=None,
        predict_effects=None,
        include=None,
        as_frame=False,
    ):
        """Intervals for expected outcomes, or for new ones.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups, offset, precision_weight : array-like, default=None
            As in `predict`.
        level : float, default=0.95
        kind : {"mean", "observation"}, default="mean"
            Of the expected outcome in the row's group, or of a new outcome, which has a residual, too.
        predict_effects : {"posterior", "zero"}, default=None
            As in `predict`; "zero": of the typical group.
        include : None, str or list of str, default=None
            As in `predict`.
        as_frame : bool, default=False

        Returns
        -------
        intervals : ndarray of shape (n_samples, 2)
            Lower and upper limits. With `as_frame` a DataFrame of the columns "lower" and "upper", with the index of X.

        Notes
        -----
        Errors of the fixed effects and of the group's effects are taken jointly; an unknown group adds the variance
        between groups. Quantiles are those of t with Satterthwaite's degrees of freedom for the variance of the error,
        residual ones, or of the normal distribution, as `df` says.
        """
        level = check_level(level)
        if kind not in KINDS:
            raise ValueError(f"kind must be 'mean' or 'observation', got {kind!r}")
        mean, variance, slopes, precision = self._with_errors(
            X, groups, offset, precision_weight, predict_effects, include
        )
        fitted = self._fitted
        if kind == "observation":
            own = fitted.sigma**2 / precision
            variance, slopes = variance + own, slopes + 2.0 * own * np.eye(len(slopes))[:, -1:]
        reach = self._reach(variance, slopes, level)
        return np.column_stack([mean - reach, mean + reach])

    def _reach(self, variance, slopes, level):
        """How far an interval reaches, of errors with these variances and their derivatives."""
        fitted = self._fitted
        df = {"residual": self.n_obs_ - len(fitted.fixed_positions), None: None}.get(fitted.df, "variance")
        if isinstance(df, str):
            df = degrees_of_predictions(variance, slopes, fitted.variance_vcov)
        return quantiles(level, df) * np.sqrt(variance)

    def _predicted(self, X, groups, offset, precision_weight, effects, include=None):
        """Means of rows, the rows, codes of their groups, the predictor and the kind of effects."""
        check_is_fitted(self)
        effects = self.predict_effects if effects is None else effects
        check_linear_effects(effects)
        rows = self._read_new_rows(X, groups, offset, precision_weight)
        warn_of_rows(self, rows.X)
        included = self._included(include, effects)
        codes = self._lookup(rows, included) if effects == "posterior" else []
        predictor = NumberPredictor.of(self, effective_threads(self.n_threads, rows.X.shape[0]))
        return predictor.means(rows.X, codes, effects, rows.offset), rows, codes, predictor, effects

    def _with_errors(self, X, groups, offset, precision_weight, effects, include=None):
        """Means, variances of their errors with derivatives, and precision weights of rows."""
        mean, rows, *how = self._predicted(X, groups, offset, precision_weight, effects, include)
        precision = np.ones(mean.size) if rows.precision_weight is None else rows.precision_weight
        return mean, *self._errors(rows, *how), precision

    def _errors(self, rows, codes, predictor, effects):
        """Variances of the errors of expected outcomes, and their derivatives."""
        variance = np.empty(rows.X.shape[0])
        slopes = np.empty((len(self._fitted.variance_vcov), variance.size))
        for part, block, code, _ in predictor.chunks(rows.X, codes):
            variance[part], slopes[:, part] = predictor.errors(block, code, effects)
        return variance, slopes

    def residuals(
        self,
        X,
        y=None,
        groups=None,
        *,
        sample_weight=None,
        offset=None,
        precision_weight=None,
        kind="conditional",
        standardise=True,
    ):
        """Residuals of rows.

        Parameters
        ----------
        X, y, groups, sample_weight, offset, precision_weight
            As in `fit`. A model with a formula finds in a data frame what is not given. Weights play no part.
        kind : {"conditional", "marginal"}, default="conditional"
            From the expected outcome in the row's group, or from the fixed part alone.
        standardise : bool or "studentised", default=True
            Whether to divide by standard deviations: of the residual, or of the outcome given the features alone.
            "studentised", of rows of the fit: by those of the difference from the expected outcome, which has been
            fitted to the row, too, so that residuals have variance 1 if the model is right.

        Returns
        -------
        residuals : Series
            NaN for studentised ones of rows that determine their expected outcome.

        Notes
        -----
        Of a row of the fit the difference has the variance of the residual (or of the outcome), less that of the error
        of what is expected (Henderson 1975; Haslett and Haslett 2007).

        References
        ----------
        Haslett J, Haslett SJ (2007). The three basic types of residuals for a linear model. International Statistical
        Review 75, 1-24.
        """
        if standardise not in (True, False, "studentised"):
            raise ValueError(f"standardise must be True, False or 'studentised', got {standardise!r}")
        if kind not in ("conditional", "marginal"):
            raise ValueError(f"kind must be 'conditional' or 'marginal', got {kind!r}")
        check_is_fitted(self)
        by_row = y, groups, sample_weight, offset, precision_weight
        X, y, groups, sample_weight, offset, precision_weight = self._complete_rows(X, *by_row)
        X, y, groups, _ = self._rows_with_outcomes(X, y, groups, None)
        effects = "posterior" if kind == "conditional" else "zero"
        mean, rows, codes, predictor, _ = self._predicted(X, groups, offset, precision_weight, effects)
        left = self._read_target(y) - mean
        if standardise:
            check_precision(self, rows, f"standardise={standardise!r}")
            precision = np.ones(mean.size) if rows.precision_weight is None else rows.precision_weight
            variance = self._fitted.sigma**2 / precision
            if kind == "marginal":
                for factor in predictor.factors:
                    t = factor.units.loadings(np.asarray(rows.X, dtype=np.float64))
                    variance = variance + np.einsum("nq,nq->n", t, t)
            if standardise == "studentised":
                free = variance - self._errors(rows, codes, predictor, effects)[0]
                variance = np.where(free > DETERMINED * variance, free, np.nan)
            left = left / np.sqrt(variance)
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(left))
        return pd.Series(left, index=index, name=f"{kind}_residual")

    def simulate(
        self,
        X,
        groups=None,
        n=1,
        random_state=None,
        *,
        offset=None,
        precision_weight=None,
        predict_effects="marginal",
    ):
        """Simulate outcomes from the fitted model.

        Parameters
        ----------
        X, groups, offset, precision_weight
            As in `predict`. Rows with the same label share their random effects; a row without one is a group of its
            own.
        n : int, default=1
        random_state : int, RandomState instance or None, default=None
        predict_effects : {"marginal", "posterior", "zero"}, default="marginal"
            Random effects drawn anew for every group, drawn from each known group's posterior, or none.

        Returns
        -------
        outcomes : ndarray of shape (n, n_samples)
        """
        check_is_fitted(self)
        if predict_effects not in ("marginal", "posterior", "zero"):
            raise ValueError(f"predict_effects must be 'marginal', 'posterior' or 'zero', got {predict_effects!r}")
        rows = rows_to_simulate(self, X, groups, n, predict_effects, offset, precision_weight)
        random = check_random_state(random_state)
        predictors = simulated_predictors(self._fitted, NumberPredictor.of(self, 1), rows, n, random, predict_effects)
        sd = self._fitted.sigma / np.sqrt(1.0 if rows.precision_weight is None else rows.precision_weight)
        return np.array([eta + sd * random.standard_normal(eta.size) for eta in predictors])

    def update_groups(
        self, X, y=None, groups=None, sample_weight=None, keep=False, *, offset=None, precision_weight=None
    ):
        """Learn the random effects of groups from their rows, without a refit.

        Parameters
        ----------
        X, y, groups, sample_weight, offset, precision_weight
            As in `fit`. Groups may be new or known. A model with a formula finds in a data frame what is not given.
        keep : bool, default=False
            What becomes of groups that the model knows. False: what is known of them are these rows alone. True: these
            rows add to it, exactly so with one factor.

        Returns
        -------
        model : MixedLinearRegression
            A copy that knows these groups, with the same fixed effects and variances. `self` is left as it was.
        """
        check_is_fitted(self)
        given = X, y, groups, sample_weight, offset, precision_weight
        observations, factors, encoded, known = self._groups_to_learn(*given)
        if not keep:
            warn_of_forgotten(factors, encoded, known)
        fitted = self._fitted
        priors = None
        if keep:
            priors = [_prior(*each) for each in zip(factors, fitted.effect_slopes, known, strict=True)]
        structure = Structure(
            [factor.structure(len(levels)) for factor, (_, levels) in zip(factors, encoded, strict=True)],
            fitted.fit_intercept,
            slopes_only=observations.X.shape[1] - fitted.units.n_slopes,
        )
        threads = effective_threads(self.n_threads)
        found = effects_given_fit(observations, structure, fitted, priors=priors, n_threads=threads)
        parts = zip(factors, encoded, found["posteriors"], found["mode_cov"], strict=True)
        changed = [with_levels(factor, levels, posterior, cov) for factor, (_, levels), posterior, cov in parts]
        kept = [lookup_codes(levels, factor.levels) < 0 for factor, (_, levels) in zip(factors, encoded, strict=True)]
        slopes = [np.concatenate([old[stays], new]) for old, stays, new in
                  zip(fitted.effect_slopes, kept, found["effect_slopes"], strict=True)]  # fmt: skip
        return self._knowing(changed, encoded, found["posterior"], effect_slopes=slopes)


def check_linear_effects(value):
    if not isinstance(value, str) or value not in EFFECTS:
        raise ValueError(f"predict_effects must be one of 'posterior', 'zero'; got {value!r}")


def _prior(factor, slopes, known):
    """What is known of levels: posteriors and slopes, those of unknown ones N(0, I) and 0."""
    q, at = len(factor.columns), known >= 0
    mean, cov = np.zeros((known.size, q)), np.broadcast_to(np.eye(q), (known.size, q, q)).copy()
    of = np.zeros((known.size, *slopes.shape[1:]))
    posterior = factor.posterior
    mean[at], cov[at], of[at] = posterior.modes[known[at]], posterior.cov[known[at]], slopes[known[at]]
    return type(posterior)(mean, mean, cov), of
