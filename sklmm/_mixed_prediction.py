"""Prediction and simulation of the mixed model: the methods that `MixedLogisticRegression` gets from here."""

import copy

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from ._base import nan_where_incomplete
from ._diagnostics import warn_of_label_type
from ._prediction import check_effects, linear_predictor, log_probabilities, logits, probabilities
from ._progress import effective_threads
from ._rows_again import read_observations
from ._text import listed
from ._validation import plain_labels
from .design.grouping import encode_groups, lookup_codes, other_type
from .exceptions import NoGroupsWarning, warn
from .inference.estimability import warn_of_rows
from .inference.prediction_intervals import prediction_interval
from .likelihood.base import FactorDesign, posterior_modes
from .simulation import simulate


class MixedPrediction:
    """Mixin: probabilities of known and new groups, from the stored tables of random effects."""

    def update_groups(self, X, y, groups=None, sample_weight=None):
        """Learn the random effects of groups from their rows, without a refit.

        Parameters
        ----------
        X, y, groups, sample_weight
            As in `fit`. Groups may be new or known; the posterior of each is computed from these rows alone, with
            several factors that of all their groups jointly.

        Returns
        -------
        model : MixedLogisticRegression
            A copy that knows these groups, with the same fixed effects and covariance. `self` is left as it
            was.
        """
        check_is_fitted(self)
        if not self._factors:
            raise ValueError("the model was fitted without groups, so that there are no groups to update")
        if groups is None and not self._group_columns and self._formula is None:
            raise ValueError("update_groups needs groups, as fit did")
        X, y, groups, sample_weight = self._complete_rows(X, y, groups, sample_weight)
        rows = self._read_new_rows(X, groups)
        target, weights = read_observations(self, rows, y, sample_weight)
        labels = [factor.labels(rows.column) for factor in self._factors]
        for factor, column in zip(self._factors, labels, strict=True):
            difference = other_type(factor.levels, column)
            if difference is not None:
                raise ValueError(
                    f"labels of {factor.name!r} would be groups of their own beside those of the model: {difference}; "
                    "give labels of the type of the fit"
                )
        encoded = [encode_groups(column, factor.name) for factor, column in zip(self._factors, labels, strict=True)]
        _, beta, _ = self._fixed_effects()
        modes, mode_cov, posterior = posterior_modes(
            rows.X,
            target,
            factors=[
                FactorDesign(code, len(levels), factor.columns, factor.blocks, factor.name)
                for factor, (code, levels) in zip(self._factors, encoded, strict=True)
            ],
            sample_weight=weights,
            beta=beta,
            theta=self._theta,
            fit_intercept=len(beta) > self.coef_.size,
            n_threads=effective_threads(self.n_threads),
        )
        updated = copy.copy(self)
        updated._factors = [
            _with_levels(factor, levels, mode, cov)
            for factor, (_, levels), mode, cov in zip(self._factors, encoded, modes, mode_cov, strict=True)
        ]
        if posterior is not None:
            kept = [
                lookup_codes(levels, factor.levels) < 0
                for factor, (_, levels) in zip(self._factors, encoded, strict=True)
            ]
            updated._posterior = self._posterior.updated(kept, posterior)
        updated.n_groups_ = {factor.name: len(factor.levels) for factor in updated._factors}
        return updated

    @nan_where_incomplete
    def predict_proba(self, X, groups=None, *, predict_effects=None):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `fit`. A label that is missing, or that fit did not see, is an unknown group; so are all of a factor
            that is absent.
        predict_effects : {"posterior", "mode", "zero", "marginal"}, default=None
            Overrides the parameter of the same name.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
        """
        mean, sd = self._linear_predictor(X, groups, predict_effects)
        return probabilities(mean, sd, effective_threads(self.n_threads))

    @nan_where_incomplete
    def predict_log_proba(self, X, groups=None, *, predict_effects=None):
        """Logarithms of `predict_proba`, with the same arguments."""
        mean, sd = self._linear_predictor(X, groups, predict_effects)
        return log_probabilities(mean, sd, effective_threads(self.n_threads))

    @nan_where_incomplete
    def decision_function(self, X, groups=None, *, predict_effects=None):
        """Logit of the probability of the second class, with the arguments of `predict_proba`."""
        mean, sd = self._linear_predictor(X, groups, predict_effects)
        return logits(mean, sd, effective_threads(self.n_threads))

    def predict(self, X, groups=None, *, predict_effects=None):
        """The more likely class, with the arguments of `predict_proba`."""
        mean, _ = self._linear_predictor(X, groups, predict_effects)
        # Averaging over a symmetric distribution does not carry a probability across 1/2.
        return self.classes_[(mean > 0).astype(np.intp)]

    def score(self, X, y, sample_weight=None, *, groups=None):
        """Accuracy of `predict`.

        Parameters
        ----------
        X, y, groups
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        X, y, groups, sample_weight = self._complete_rows(X, y, groups, sample_weight)
        return accuracy_score(plain_labels(y), self.predict(X, groups=groups), sample_weight=sample_weight)

    def _linear_predictor(self, X, groups, effects):
        check_is_fitted(self)
        effects = self.predict_effects if effects is None else effects
        check_effects(effects)
        rows = self._read_new_rows(X, groups)
        warn_of_rows(self, rows.X)
        codes = []
        if effects in ("posterior", "mode"):
            codes = self._lookup(rows)
        elif effects == "marginal":
            codes = [np.broadcast_to(np.intp(-1), rows.X.shape[0])] * len(self._factors)
        return linear_predictor(
            rows.X, self.coef_[0], self.intercept_[0], self._factors, codes, effects, self._posterior
        )

    def _lookup(self, rows):
        """For each factor the level of each row, -1 where it is unknown."""
        if not self._factors:
            if rows.groups:
                warn(
                    "the model was fitted without groups: those given are ignored",
                    NoGroupsWarning,
                )
            return []
        if not rows.groups:
            warn(
                "the model was fitted with groups and got none: every row is predicted as one of an unknown "
                "group. Pass groups=, or ask for predict_effects='marginal'",
                NoGroupsWarning,
            )
            return [np.broadcast_to(np.intp(-1), rows.X.shape[0])] * len(self._factors)
        codes = []
        for factor in self._factors:
            labels = factor.labels(rows.column)
            codes.append(lookup_codes(factor.levels, labels))
            consequence = "Every row is predicted as one of an unknown group"
            warn_of_label_type(factor.name, factor.levels, labels, codes[-1], consequence)
        absent = [factor.name for factor in self._factors if set(factor.sources) & set(rows.absent_groups)]
        if absent:
            warn(
                f"there is no column {listed(map(repr, rows.absent_groups))}: every row is predicted as one of an "
                f"unknown group of {listed(absent)}. Name predict_effects='marginal' or 'zero' if that is meant",
                NoGroupsWarning,
            )
        return codes

    @nan_where_incomplete
    def predict_interval(self, X, groups=None, level=0.95):
        """Intervals for the probability of the second class of each row, in its group.

        For a known group the interval allows for what is not known about the group and about the fixed effects; for an
        unknown one it holds the probabilities of so many of the groups there are. Variances count as known.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `predict_proba`.
        level : float, default=0.95

        Returns
        -------
        intervals : ndarray of shape (n_samples, 2)
            Lower and upper limits.

        Notes
        -----
        Wald intervals on the logit scale. The errors of a group's effects and of the fixed effects are correlated: the
        covariance is exact for features with random slopes, and otherwise takes features to be spread within each group
        as they are on the whole, since a fitted model holds no rows. With several grouping factors, and for features
        with random slopes but no fixed effect, the two errors count as independent, which makes intervals rather too
        wide.
        """
        mean, sd = self._linear_predictor(X, groups, "posterior")
        return prediction_interval(self, self._read_new_rows(X, groups), mean, sd, level)

    def simulate(self, X, groups=None, n=1, random_state=None, *, predict_effects="marginal"):
        """Simulate outcomes from the fitted model.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `predict_proba`. Rows with the same label share their random effects, whether the model knows the
            group or not; a row without a label is a group of its own.
        n : int, default=1
            Number of simulations.
        random_state : int, RandomState instance or None, default=None
            Pass an int for the same outcomes in every call.
        predict_effects : {"marginal", "posterior", "mode", "zero"}, default="marginal"
            Random effects: drawn anew for every group from their distribution, as a new study would; drawn from each
            known group's posterior (factor by factor, where there are several); the conditional modes; or none.

        Returns
        -------
        outcomes : ndarray of shape (n, n_samples)
            Labels of `classes_`.
        """
        check_is_fitted(self)
        return simulate(self, X, groups, n, random_state, predict_effects)


def _with_levels(factor, levels, modes, mode_cov):
    """A copy of a fitted factor whose given levels have these random effects; other levels keep theirs."""
    kept = lookup_codes(levels, factor.levels) < 0
    updated = copy.copy(factor)
    updated.levels = factor.levels[kept].append(levels)
    updated.modes = np.concatenate([factor.modes[kept], modes])
    updated.mode_cov = np.concatenate([factor.mode_cov[kept], mode_cov])
    return updated
