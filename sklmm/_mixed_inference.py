"""Inference of the mixed model beyond Wald's: the methods that `MixedLogisticRegression` gets from here."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ._base import one_dimensional, read_weights
from ._progress import effective_threads
from .design.grouping import encode_groups
from .exceptions import ConvergenceWarning
from .inference.intervals import check_level
from .inference.profile import profile_interval
from .inference.variance_partition import variance_partition
from .likelihood.base import FactorDesign
from .likelihood.objective import MixedObjective

SAME_ROWS = 1e-6  # a log-likelihood that differs by more, relatively, is not that of the rows of the fit


class MixedInference:
    """Mixin: from the fitted attributes, and from the data only where a method refits."""

    @property
    def variance_partition_(self):
        """Variances on the latent scale: of the fixed effects, of each factor's random effects, of the error."""
        factors = self._fitted("_factors")
        return variance_partition(self._row_moments, {factor.name: factor.covariance for factor in factors})

    @property
    def icc_(self):
        """Intraclass correlation on the latent scale, of all factors together."""
        return self.variance_partition_.icc

    @property
    def median_odds_ratio_(self):
        """Median odds ratio of each factor."""
        return self.variance_partition_.median_odds_ratio

    @property
    def r2_(self):
        """Nakagawa's R2, marginal and conditional."""
        return self.variance_partition_.r2

    def conf_int(self, level=0.95, method="wald", *, X=None, y=None, groups=None, sample_weight=None, parameters=None):
        """Confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
        method : {"wald", "profile"}, default="wald"
            "wald": of the fixed effects, from their standard errors. "profile": the values that a likelihood ratio
            test does not reject; of the fixed effects and of the random effects' standard deviations and correlations.
            It fits the model some dozens of times and needs the rows of the fit.
        X, y, groups, sample_weight
            The rows of the fit, as `fit` got them; for "profile" only.
        parameters : None, "fixed", "random" or list of str, default=None
            Which intervals to find, for "profile"; None is all of them. A list has names of the result's index.

        Returns
        -------
        intervals : DataFrame
            A row a parameter, columns "lower" and "upper". Fixed effects come first; "sd_age|district" is the standard
            deviation of the random coefficient "age" of the term "district", "cor_age.intercept|district" its
            correlation with the random intercept.
        """
        check_is_fitted(self)
        if method == "wald":
            return super().conf_int(level)
        if method != "profile":
            raise ValueError(f"method must be 'wald' or 'profile', got {method!r}")
        level = check_level(level)
        chosen = self._chosen_parameters(parameters)
        rows = self._rows_of_fit(f"method={method!r}", X, y, groups, sample_weight)
        objective = self._objective(rows)
        ends = {
            parameter.name: parameter.interval(objective, level) if parameter.identified else (np.nan, np.nan)
            for parameter in chosen
        }
        intervals = pd.DataFrame.from_dict(ends, orient="index", columns=["lower", "upper"])
        lost = [found.name for found in chosen if found.identified and np.isnan(ends[found.name]).any()]
        if lost:
            warnings.warn(
                f"ends of the profile intervals of {', '.join(lost)} were not found and are NaN: the likelihood has "
                "several maxima, or falls along a narrow ridge",
                ConvergenceWarning,
                stacklevel=2,
            )
        return intervals

    # The rows again ----------------------------------------------------------------------------------------------

    def _rows_of_fit(self, what, X, y, groups, sample_weight):
        """The rows of the fit, passed once more: checked and coded as `fit` did."""
        needed = {"X": X, "y": y}
        if self._factors and not self._group_columns:
            needed["groups"] = groups
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ValueError(
                f"{what} needs the rows of the fit, which a fitted model does not keep: pass "
                f"{', '.join(f'{name}={name}' for name in missing)}"
            )
        rows = self._read_new_rows(X, groups if self._factors else None)
        y = one_dimensional(y, "y", rows.X.shape[0])
        weights = read_weights(sample_weight, rows.X.shape[0])
        if weights is not None and not weights.all():
            mask = weights > 0
            rows.keep(mask)
            y, weights = np.asarray(y)[mask], weights[mask]
        target = pd.Index(self.classes_).get_indexer(np.asarray(y))
        if (target < 0).any():
            raise ValueError(f"y holds labels that fit did not see; the classes are {self.classes_.tolist()}")
        n_obs = float(len(target) if weights is None else weights.sum())
        if abs(n_obs - self.n_obs_) > SAME_ROWS * self.n_obs_:
            raise ValueError(
                f"{what} needs the rows of the fit: it had {self.n_obs_:,.10g} rows, here are {n_obs:,.10g}"
            )
        designs = []
        for factor in self._factors:
            codes, levels = encode_groups(factor.labels(rows.column), factor.name)
            designs.append(FactorDesign(codes, len(levels), factor.columns, factor.blocks, factor.name))
        return FittedRows(rows.X, target.astype(np.uint8), designs, weights)

    def _objective(self, rows):
        """The log-likelihood of these rows around the fit; an error if they are not those of the fit."""
        _, beta, _ = self._fixed_effects()
        objective = MixedObjective(
            rows.X,
            rows.y,
            factors=rows.designs,
            sample_weight=rows.weights,
            fit_intercept=len(beta) > self.coef_.size,
            n_quadrature=self._n_quadrature,
            n_threads=effective_threads(self.n_threads),
            beta=beta,
            theta=self._theta,
        )
        if abs(objective.value - self.log_likelihood_) > SAME_ROWS * (1 + abs(self.log_likelihood_)):
            raise ValueError(
                f"these are not the rows of the fit: their log-likelihood is {objective.value:.6f}, and the fit's was "
                f"{self.log_likelihood_:.6f}"
            )
        return objective

    # Names of parameters -----------------------------------------------------------------------------------------

    def _parameters(self):
        """Every parameter of the model, fixed effects first."""
        names, _, vcov = self._fixed_effects()
        found = [
            Parameter(str(name), "fixed", (i,), not np.isnan(vcov[i, i])) for i, name in enumerate(names)
        ]
        start = 0
        for factor in self._factors:
            for (term, coefficients, part), (_, correlated) in zip(factor.term_slices(), factor.blocks, strict=True):
                for a, name in enumerate(coefficients, start + part.start):
                    found.append(Parameter(f"sd_{name}|{term}", "random", (a,)))
                for a, name in enumerate(coefficients if correlated else []):
                    for b, earlier in enumerate(coefficients[:a]):
                        pair = (start + part.start + a, start + part.start + b)
                        found.append(Parameter(f"cor_{name}.{earlier}|{term}", "random", pair))
            start += len(factor.columns)
        return found

    def _chosen_parameters(self, parameters):
        known = self._parameters()
        if parameters is None:
            return known
        if isinstance(parameters, str) and parameters in ("fixed", "random"):
            return [parameter for parameter in known if parameter.kind == parameters]
        wanted = [parameters] if isinstance(parameters, str) else list(parameters)
        by_name = {parameter.name: parameter for parameter in known}
        unknown = [name for name in wanted if name not in by_name]
        if unknown:
            raise ValueError(
                f"there is no parameter {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, by_name))}"
            )
        return [by_name[name] for name in wanted]


@dataclass
class FittedRows:
    """The rows of a fit, as the likelihood takes them."""

    X: np.ndarray
    y: np.ndarray
    designs: list
    weights: np.ndarray | None


@dataclass
class Parameter:
    """A parameter in the user's terms: a fixed effect by its position, a standard deviation or correlation by the
    positions of one or two random coefficients."""

    name: str
    kind: str
    positions: tuple
    identified: bool = True

    def interval(self, objective, level):
        """Its profile likelihood interval."""
        if self.kind == "fixed":
            quantity = objective.fixed_effect(*self.positions)
        elif len(self.positions) == 1:
            quantity = objective.standard_deviation(*self.positions)
        else:
            quantity = objective.correlation(*self.positions)
        return profile_interval(objective, quantity, level)
