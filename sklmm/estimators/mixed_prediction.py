"""Prediction and simulation of the mixed model: the methods that `MixedLogisticRegression` gets from here."""

import copy
from dataclasses import replace

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklmm.design.grouping import encode_groups, lookup_codes, other_type
from sklmm.design.structure import Observations, Structure
from sklmm.estimators.fit_warnings import warn_of_label_type
from sklmm.estimators.reading import nan_where_incomplete
from sklmm.estimators.rows_of_fit import check_precision, read_observations
from sklmm.exceptions import ForgottenGroupsWarning, NoGroupsWarning
from sklmm.inference.estimability import warn_of_rows
from sklmm.likelihood.combining import combined
from sklmm.likelihood.fit import posteriors_given_fit
from sklmm.likelihood.posterior import NodePosterior
from sklmm.messages import listed, warn
from sklmm.passes.threads import effective_threads
from sklmm.prediction.intervals import prediction_interval
from sklmm.prediction.predictor import Predictor, check_effects
from sklmm.prediction.simulation import simulate


class MixedPrediction:
    """Mixin: probabilities of known and new groups, from the stored tables of random effects."""

    def update_groups(self, X, y=None, groups=None, sample_weight=None, keep=False, *, offset=None):
        """Learn the random effects of groups from their rows, without a refit.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            As in `fit`. Groups may be new or known. A model with a formula finds in a data frame what is not given.
        keep : bool, default=False
            What becomes of groups that the model knows. False: their posterior is computed from these rows alone, as
            if they were new. True: these rows add to what is known of them.

        Returns
        -------
        model : MixedLogisticRegression
            A copy that knows these groups, with the same fixed effects and covariance. `self` is left as it
            was.

        Warns
        -----
        ForgottenGroupsWarning
            If groups are known and `keep` is False: what was known of them is forgotten.

        Raises
        ------
        ValueError
            If the model was fitted without groups, if groups are missing, or if y holds labels that fit did not see.

        Notes
        -----
        With several factors the posterior is that of all the groups in these rows jointly, and they are independent of
        the groups that are kept. With ``keep=True`` what is known of a group then counts as normal, and groups as
        independent. With one factor of up to three random coefficients the likelihood of the rows seen before is
        interpolated between the nodes of the posterior: rows that come in two halves give probabilities within 1e-3
        of those that they give at once.
        """
        observations, factors, encoded, known = self._groups_to_learn(X, y, groups, sample_weight, offset)
        if not keep:
            warn_of_forgotten(factors, encoded, known)
        on_nodes = isinstance(factors[0].posterior, NodePosterior)
        structures = [factor.structure(len(levels)) for factor, (_, levels) in zip(factors, encoded, strict=True)]
        _, mode_cov, posteriors, joint = posteriors_given_fit(
            observations,
            Structure(structures, self._fitted.fit_intercept, family=self._fitted.family),
            self._fitted.units,
            n_threads=effective_threads(self.n_threads),
            priors=None if on_nodes or not keep else [*map(_prior, factors, known)],
        )
        at_nodes = known if keep and on_nodes else [None] * len(factors)
        parts = zip(factors, encoded, posteriors, mode_cov, at_nodes, strict=True)
        changed = [with_levels(factor, levels, *found) for factor, (_, levels), *found in parts]
        return self._knowing(changed, encoded, joint)

    def _groups_to_learn(self, X, y, groups, sample_weight, offset, precision_weight=None):
        """Rows of groups to learn, the model's factors, codes and labels by factor, and which levels it knows."""
        check_is_fitted(self)
        if not self._fitted.factors:
            raise ValueError("the model was fitted without groups, so that there are no groups to update")
        if groups is None and not self._fitted.group_columns and self._fitted.formula is None:
            raise ValueError("update_groups needs groups, as fit did")
        X, y, groups, sample_weight = self._rows_with_outcomes(X, y, groups, sample_weight)
        rows = self._read_new_rows(X, groups, offset, precision_weight)
        check_precision(self, rows, "update_groups")
        target, weights = read_observations(self, rows, y, sample_weight)
        factors = self._fitted.factors
        labels = [factor.labels(rows.column) for factor in factors]
        for factor, column in zip(factors, labels, strict=True):
            difference = other_type(factor.levels, column)
            if difference is not None:
                raise ValueError(
                    f"labels of {factor.name!r} would be groups of their own beside those of the model: {difference}; "
                    "give labels of the type of the fit"
                )
        encoded = [encode_groups(column, factor.name) for factor, column in zip(factors, labels, strict=True)]
        known = [lookup_codes(factor.levels, levels) for factor, (_, levels) in zip(factors, encoded, strict=True)]
        codes = [code for code, _ in encoded]
        given = {"offset": rows.offset, "precision": rows.precision_weight}
        return Observations(rows.X, target, codes, weights, **given), factors, encoded, known

    def _knowing(self, factors, encoded, joint, **more):
        """A copy with these factors, whose levels have been learnt; `joint` is their posterior across factors."""
        fitted, joint_posterior = self._fitted, None
        if len(factors) > 1:
            pairs = zip(fitted.factors, encoded, strict=True)
            kept = [lookup_codes(levels, factor.levels) < 0 for factor, (_, levels) in pairs]
            joint_posterior = fitted.posterior.updated(kept, joint)
        updated = copy.copy(self)
        updated._fitted = replace(fitted, factors=factors, posterior=joint_posterior, **more)
        updated.n_groups_ = {factor.name: len(factor.levels) for factor in factors}
        return updated

    def _tails(self, X, groups, offset, effects, log=False, include=None):
        """The smaller of the event's probability and 1 less that, or its logarithm; whether the event is likelier."""
        check_is_fitted(self)
        effects = self.predict_effects if effects is None else effects
        check_effects(effects)
        rows = self._read_new_rows(X, groups, offset)
        warn_of_rows(self, rows.X)
        included = self._included(include, effects)
        codes = self._lookup(rows, included) if effects in ("posterior", "mode") else []
        predictor = Predictor.of(self, effective_threads(self.n_threads, rows.X.shape[0]))
        return predictor.tails(rows.X, codes, effects, log, rows.offset)

    def _included(self, include, effects="posterior"):
        """Names of the grouping factors whose groups count in a prediction.

        Parameters
        ----------
        include : None, str or list of str
            None: all.
        effects : str
            Of the prediction: where the group does not matter, no factor can be asked for.
        """
        names = [factor.name for factor in self._fitted.factors]
        if include is None:
            return names
        wanted = [include] if isinstance(include, str) else list(include)
        unknown = [name for name in wanted if name not in names]
        if unknown:
            known = f"there are {listed(map(repr, names))}" if names else "the model has none"
            raise ValueError(f"include names {listed(map(repr, unknown))}, no grouping factor of the model: {known}")
        if wanted and effects not in ("posterior", "mode"):
            raise ValueError(
                f"include={include!r} says whose random effects count, but with predict_effects={effects!r} none do: "
                "leave it out, or ask for predict_effects='posterior'"
            )
        return wanted

    def _lookup(self, rows, included=None):
        """For each factor the level of each row, -1 where it is unknown or the factor is not included."""
        if not self._fitted.factors:
            if rows.groups:
                warn("the model was fitted without groups: those given are ignored", NoGroupsWarning)
            return []
        factors = [f for f in self._fitted.factors if included is None or f.name in included]
        unknown = np.broadcast_to(np.intp(-1), rows.X.shape[0])
        if factors and not rows.groups:
            warn(
                "the model was fitted with groups and got none: every row is predicted as one of an unknown "
                f"group. Pass groups=, or ask for predict_effects={self._effects_of_no_group}",
                NoGroupsWarning,
            )
        if not factors or not rows.groups:
            return [unknown] * len(self._fitted.factors)
        codes = {}
        for factor in factors:
            labels = factor.labels(rows.column)
            codes[factor.name] = lookup_codes(factor.levels, labels)
            consequence = "Every row is predicted as one of an unknown group"
            warn_of_label_type(factor.name, factor.levels, labels, codes[factor.name], consequence)
        absent = [factor.name for factor in factors if set(factor.sources) & set(rows.absent_groups)]
        if absent:
            columns = [name for name in rows.absent_groups if any(name in factor.sources for factor in factors)]
            warn(
                f"there is no column {listed(map(repr, columns))}: every row is predicted as one of an "
                f"unknown group of {listed(absent)}. Name predict_effects={self._effects_of_no_group} if that is meant",
                NoGroupsWarning,
            )
        return [codes.get(factor.name, unknown) for factor in self._fitted.factors]

    @nan_where_incomplete
    def predict_interval(self, X, groups=None, level=0.95, *, offset=None, include=None, as_frame=False):
        """Intervals for the probability of the second class of each row, in its group.

        For a known group the interval allows for what is not known about the group and about the fixed effects; for an
        unknown one it holds the probabilities of so many of the groups there are. Variances count as known.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups, offset : array-like, default=None
            As in `predict_proba`.
        level : float, default=0.95
        include : None, str or list of str, default=None
            As in `predict_proba`.
        as_frame : bool, default=False

        Returns
        -------
        intervals : ndarray of shape (n_samples, 2)
            Lower and upper limits. With `as_frame` a DataFrame of the columns "lower" and "upper", with the index of X.

        Notes
        -----
        Quantiles on the logit scale, of the posterior's first four cumulants in a known group. The errors of a group's
        effects and of the fixed effects are correlated: the covariance is exact for features with random slopes, and
        otherwise takes features to be spread within each group as they are on the whole, since a fitted model holds no
        rows. With several grouping factors, and for features with random slopes but no fixed effect, the two errors
        count as independent, which makes intervals rather too wide.
        """
        check_is_fitted(self)
        rows = self._read_new_rows(X, groups, offset)
        warn_of_rows(self, rows.X)
        codes = self._lookup(rows, self._included(include))
        predictor = Predictor.of(self, effective_threads(self.n_threads, rows.X.shape[0]))
        moments = predictor.moments(rows.X, codes, rows.offset)
        interval = prediction_interval(self, rows.X, codes, moments, level)
        return interval if self._fitted.event else 1.0 - interval[:, ::-1]

    def simulate(self, X, groups=None, n=1, random_state=None, *, offset=None, predict_effects="marginal"):
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
        offset : array-like of shape (n_samples,), default=None
            As in `fit`.
        predict_effects : {"marginal", "posterior", "mode", "zero"}, default="marginal"
            Random effects: drawn anew for every group from their distribution, as a new study would; drawn from each
            known group's posterior (factor by factor, where there are several); the conditional modes; or none.

        Returns
        -------
        outcomes : ndarray of shape (n, n_samples)
            Labels of `classes_`. Of a model with a formula of counts numbers of successes, of as many trials as each
            line of the data frame has.
        """
        check_is_fitted(self)
        return simulate(self, X, groups, n, random_state, predict_effects, offset)


def warn_of_forgotten(factors, encoded, known):
    """Say that what the model knew of groups is about to be replaced."""
    for factor, (_, levels), at in zip(factors, encoded, known, strict=True):
        forgotten = levels[at >= 0].tolist()
        if forgotten:
            others = f" and of {len(forgotten) - 1:,} other groups" if len(forgotten) > 1 else ""
            warn(
                f"update_groups replaces what the model knew of {factor.name} {forgotten[0]!r}{others} by what these "
                "rows say; pass keep=True to add the rows to what is known",
                ForgottenGroupsWarning,
            )


def _prior(factor, known):
    """Mean and precision of the effects of each level: of those that are known what is known, else N(0, I)."""
    q = len(factor.columns)
    mean, precision = np.zeros((known.size, q)), np.broadcast_to(np.eye(q), (known.size, q, q)).copy()
    at = known >= 0
    mean[at], precision[at] = factor.posterior.mean[known[at]], np.linalg.inv(factor.posterior.cov[known[at]])
    return mean, precision


def with_levels(factor, levels, posterior, mode_cov, known=None):
    """A copy of a fitted factor whose given levels have this posterior; other levels keep theirs.

    With `known`, positions of these levels in the factor or -1, what is said of known ones adds to what it has.
    """
    if known is not None and (known >= 0).any():
        at = np.flatnonzero(known >= 0)
        both, curvature = combined(factor.posterior.take(known[at]), posterior.take(at), factor.units)
        posterior, mode_cov = posterior.replaced(at, both), mode_cov.copy()
        mode_cov[at] = factor.units.natural @ np.linalg.solve(
            curvature, np.broadcast_to(factor.units.natural.T, curvature.shape)
        )
    kept = np.flatnonzero(lookup_codes(levels, factor.levels) < 0)
    updated = copy.copy(factor)
    updated.levels = factor.levels[kept].append(levels)
    updated.posterior = factor.posterior.take(kept).followed_by(posterior)
    updated.mode_cov = np.concatenate([factor.mode_cov[kept], mode_cov])
    return updated
