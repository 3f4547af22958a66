"""Inference of the mixed model beyond Wald's and the bootstrap: the methods that it gets from here."""


import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.grouping import encode_groups, lookup_known_codes
from sklmm.design.structure import Observations, Structure
from sklmm.estimators.inference import Inference
from sklmm.estimators.rows_of_fit import SAME_ROWS, read_rows_of_fit
from sklmm.exceptions import ConvergenceWarning, FewClustersWarning
from sklmm.inference.bootstrap import ClusterDraw, MixedRefit, ParametricDraw, acceleration
from sklmm.inference.parameters import Estimates, Parameter
from sklmm.inference.profile import profile_interval
from sklmm.inference.variance_partition import variance_partition
from sklmm.likelihood.fit import engine_with_priors
from sklmm.likelihood.leaving_out import influence, natural_factors, without_clusters
from sklmm.likelihood.objective import MixedObjective
from sklmm.messages import warn
from sklmm.passes.threads import effective_threads


class MixedInference(Inference):
    """Mixin: from the fitted attributes, and from the data only where a method refits."""

    _intervals = ("wald", "profile", "bootstrap")
    _resampling = "parametric"

    @property
    def variance_partition_(self):
        """Variances on the latent scale: of the fixed effects, of each factor's random effects, of the error."""
        factors = {factor.name: factor.units.Lambda for factor in self._state.factors}
        return variance_partition(self._fitted.row_moments, factors, self._fitted.family)

    @property
    def icc_(self):
        """Intraclass correlation on the latent scale, of all factors together."""
        return self.variance_partition_.icc

    @property
    def r2_(self):
        """Nakagawa's R2, marginal and conditional."""
        return self.variance_partition_.r2

    def vcov(self, cov_type="model"):
        """Covariance of the fixed effects.

        Parameters
        ----------
        cov_type : {"model", "robust"}, default="model"
            "model" is `vcov_`, right if the model is. "robust": the cluster sandwich, from the scores of the groups
            (without groups, of the rows) at the fit; for many groups it holds whatever the rows of a group have in
            common, as long as groups are independent and the fixed effects mean what they are to mean. No small-sample
            correction.

        Returns
        -------
        vcov : DataFrame
            NaN in the rows and columns of coefficients that are not identified.

        Raises
        ------
        ValueError
            For "robust", if there are several grouping factors: their groups are not independent clusters.
        """
        check_is_fitted(self)
        if cov_type not in ("model", "robust"):
            raise ValueError(f"cov_type must be 'model' or 'robust', got {cov_type!r}")
        if cov_type == "model":
            return self.vcov_
        if len(self._fitted.factors) > 1:
            raise ValueError(
                "cov_type='robust' sums over independent clusters, but the model has several grouping factors: "
                f"{', '.join(self._fitted.n_groups)}. Fit one of them, the coarsest of nested ones"
            )
        names = self._fitted.fixed_names
        n, n_clusters = len(names), next(iter(self._fitted.n_groups.values()), self.n_obs_)
        if n_clusters <= n:
            warn(
                f"there are {n_clusters:g} groups for {n} coefficients: a robust covariance needs more groups "
                "than coefficients (better, dozens of them)",
                FewClustersWarning,
            )
        return pd.DataFrame(self._fitted.robust_vcov[:n, :n], index=names, columns=names, copy=True)

    def _profile_intervals(self, chosen, level, *rows):
        """Ends of the profile likelihood's intervals of the chosen parameters."""
        objective = self._objective(*self._rows_of_fit("method='profile'", *rows))
        units = objective.engine.units
        ends = [
            profile_interval(objective, self._quantity(found, units), level) if found.identified else (np.nan, np.nan)
            for found in chosen
        ]
        lost = [
            found.name for found, pair in zip(chosen, ends, strict=True) if found.identified and np.isnan(pair).any()
        ]
        if lost:
            warn(
                f"ends of the profile intervals of {', '.join(lost)} were not found and are NaN: the likelihood has "
                "several maxima, or falls along a narrow ridge",
                ConvergenceWarning,
            )
        return pd.DataFrame(ends, index=[found.name for found in chosen], columns=["lower", "upper"])

    def _quantity(self, parameter, units):
        """A parameter as a function of an engine's."""
        return parameter.quantity(units)

    def _refit(self, rows, structure, resampling, settings):
        """How a resample is fitted, the estimates of the fit itself, and the accelerations of its intervals."""
        objective = self._objective(rows, structure)
        parameters = self._parameters()
        _, beta, _ = self._fixed_effects()
        estimates_of = Estimates(parameters, structure.fit_intercept)
        if resampling == "parametric":
            draw = ParametricDraw(rows, structure, beta, self._fitted.theta)
        else:
            draw = ClusterDraw(rows, structure)
        estimates = estimates_of.of(beta, [factor.covariance for factor in self._fitted.factors])
        accelerations = None
        if len(self._fitted.factors) <= 1:
            change, counts = influence(objective)
            units = objective.engine.units
            gradients = (parameter.quantity(units).at(objective.x)[1] for parameter in parameters)
            accelerations = [acceleration(change @ np.nan_to_num(gradient), counts) for gradient in gradients]
        return MixedRefit(draw, settings, estimates_of), estimates, accelerations

    # The rows again ----------------------------------------------------------------------------------------------

    def _rows_of_fit(self, what, X, y, groups, sample_weight, offset=None, precision_weight=None):
        """The rows of the fit, passed once more, and what was fitted to them: checked and coded as `fit` did."""
        given = {"offset": offset, "precision_weight": precision_weight}
        rows, target, weights = read_rows_of_fit(self, what, X, y, groups, sample_weight, **given)
        code_of, factors = [], []
        for factor in self._fitted.factors:
            labels = factor.labels(rows.column)
            if self._fitted.levels is None:
                codes, levels = encode_groups(labels, factor.name)
            else:  # results by group are in the order of the fit's levels, however these labels would be sorted
                codes, levels = lookup_known_codes(self._fitted.levels, labels, what), self._fitted.levels
            code_of.append(codes)
            factors.append(factor.structure(len(levels)))
        slopes_only = rows.X.shape[1] - self.coef_.size
        fitted = self._fitted
        structure = Structure(factors, fitted.fit_intercept, self.n_quadrature_, slopes_only, family=fitted.family)
        given = {"offset": rows.offset, "precision": rows.precision_weight, "lines": rows.line}
        return Observations(rows.X, target, code_of, weights, **given), structure

    def _objective(self, rows, structure):
        """The log-likelihood of the fit's rows, with its priors, around the fit; an error if these are not its rows."""
        _, beta, _ = self._fixed_effects()
        engine = engine_with_priors(rows, structure, self._fitted.priors, effective_threads(self.n_threads))
        objective = MixedObjective(engine, beta, self._fitted.theta)
        value = self.log_likelihood_ + (self._fitted.log_prior or 0.0)
        if abs(objective.value - value) > SAME_ROWS * (1 + abs(value)):
            raise ValueError(
                f"these are not the rows of the fit: their log-likelihood is {objective.value:.6f}, and the fit's was "
                f"{value:.6f}"
            )
        return objective

    def _without_clusters(self, what, *rows):
        """The model after a Newton step without each group: fixed effects (n_levels, n), Lambda (n_levels, q, q)."""
        objective = self._objective(*self._rows_of_fit(what, *rows))
        return natural_factors(objective.engine, without_clusters(objective))

    # Names of parameters -----------------------------------------------------------------------------------------

    def _parameters(self):
        """Every parameter of the model: fixed effects, then standard deviations and correlations by term."""
        found, start = super()._parameters(), 0
        for factor in self._fitted.factors:
            for (term, coefficients, part), (_, correlated) in zip(factor.term_slices(), factor.blocks, strict=True):
                for a, name in enumerate(coefficients, start + part.start):
                    found.append(Parameter(f"sd_{name}|{term}", "random", (a,)))
                for a, name in enumerate(coefficients if correlated else []):
                    for b, earlier in enumerate(coefficients[:a]):
                        pair = (start + part.start + a, start + part.start + b)
                        found.append(Parameter(f"cor_{name}.{earlier}|{term}", "random", pair))
            start += len(factor.columns)
        return found
