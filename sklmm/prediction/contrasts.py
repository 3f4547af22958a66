"""Contrasts of estimated means.

A contrast L m of means with the gradient G in all parameters has the covariance L G V G' L' (delta method).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklmm.inference.multiplicity import ADJUSTMENTS, adjusted, reach_of
from sklmm.inference.tables import Table
from sklmm.inference.wald import check_level
from sklmm.messages import listed
from sklmm.prediction.population import degrees_of_freedom, delta_errors, parameter_covariance


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedMeans:
    """Estimated means of levels; see `sklmm.estimated_means`.

    Attributes
    ----------
    model : fitted estimator
    cells : DataFrame of shape (n_means, n_variables)
        The levels of each mean: of the factor, and of the variables of `by` behind them.
    n_compared : int
        How many of these are the factor's.
    scale : {"response", "link"}
    level : float
        Of intervals.
    averages
        Estimates and their gradients.
    notes : list of str
    """

    model: object
    cells: pd.DataFrame
    n_compared: int
    scale: str
    level: float
    averages: object
    notes: list

    @property
    def estimate(self):
        """The means, (n_means,)."""
        return self.averages.estimate

    @property
    def covariance(self):
        """Covariance of the means, (n_means, n_means)."""
        return self.averages.gradient @ parameter_covariance(self.model) @ self.averages.gradient.T

    def to_frame(self):
        """A data frame with a row a mean: "estimate", "std_error", "lower" and "upper", by levels."""
        return self._table().to_frame()

    def _table(self):
        table = Table(self.averages.table(self.level).set_axis(_index(self.cells)))
        for note in self.notes:
            table.with_note(note)
        return table

    def __repr__(self):
        return repr(self._table())

    def _repr_html_(self):
        return self._table()._repr_html_()

    def contrasts(self, method="pairwise", *, adjust="holm", level=None):
        """Differences between means, with errors, tests and intervals.

        Parameters
        ----------
        method : {"pairwise", "reference"}, DataFrame or array-like of shape (n_contrasts, n_levels), \
default="pairwise"
            Every mean less each before it; every mean less the first; or weights of the means, a contrast a row. With
            `by`, within each of its levels.
        adjust : {"holm", "tukey", "sidak", "none"}, default="holm"
            How p-values allow for several contrasts (within a level of `by`). "tukey": by the joint distribution of all
            of them, a multivariate normal or t; it is Tukey's where means are of equally many independent rows.
        level : float, default=None
            Of the intervals; None: that of the means.

        Returns
        -------
        contrasts : Table
            A row a contrast: "estimate", "std_error", "z" or "t", "p_value", "lower", "upper"; of two probabilities
            also their ratio ("risk_ratio"), of linear predictors the link's ("odds_ratio", "hazard_ratio"), each with
            an interval. Intervals allow for several contrasts with "tukey" and "sidak". With "holm", which has none of
            its own, and "none" each holds by itself.

        References
        ----------
        Holm S (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6,
        65-70.

        Hothorn T, Bretz F, Westfall P (2008). Simultaneous inference in general parametric models. Biometrical Journal
        50, 346-363.
        """
        check_one_of("adjust", adjust, ADJUSTMENTS)
        level = self.level if level is None else check_level(level)
        apart = list(self.cells.columns[self.n_compared :])
        families = [((), np.arange(len(self.cells)))]
        if apart:
            grouped = self.cells.groupby(apart, sort=False, observed=True).indices
            families = [(key if isinstance(key, tuple) else (key,), places) for key, places in grouped.items()]
        tables = []
        for key, places in families:
            labels = [" ".join(map(str, values)) for values in self.cells.iloc[places, : self.n_compared].to_numpy()]
            names, weights = _contrast_weights(method, labels)
            table = self._family(names, weights, places, adjust, level)
            if apart:
                table.index = pd.MultiIndex.from_tuples([(*key, name) for name in names], names=[*apart, "contrast"])
            tables.append(table)
        out = Table(pd.concat(tables))
        words = {"none": "p-values are not adjusted", "holm": "p-values by Holm's method, intervals each by itself"}
        several = max(len(table) for table in tables) > 1
        if several:
            out.with_note(f"{words.get(adjust, f'p-values and intervals by the method of {adjust.capitalize()}')}.")
        for note in self.notes:
            out.with_note(note)
        return out

    def _family(self, names, L, places, adjust, level):
        """The contrasts with weights L among some of the means."""
        m, G = self.averages.estimate[places], self.averages.gradient[places]
        lost = ((L != 0) & np.isnan(m)).any(axis=1)
        m, G = np.nan_to_num(m), np.nan_to_num(G)
        blank = lost | ((L != 0) & self.averages.blank[places]).any(axis=1)
        vcov = parameter_covariance(self.model)
        gradient = L @ G
        estimate, covariance = np.where(lost, np.nan, L @ m), gradient @ vcov @ gradient.T
        se = np.where(blank, np.nan, np.sqrt(np.maximum(np.diagonal(covariance), 0.0)))
        df = degrees_of_freedom(self.model, gradient)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = estimate / se
            correlation = covariance / np.outer(se, se)
        there = np.isfinite(ratio)
        p_value = np.full(len(names), np.nan)
        own_df = None if df is None else np.broadcast_to(df, len(names))[there]
        p_value[there] = adjusted(ratio[there], correlation[np.ix_(there, there)], own_df, adjust)
        reach = np.full(len(names), np.nan)
        reach[there] = reach_of(level, correlation[np.ix_(there, there)], own_df, adjust)
        columns = {
            "estimate": estimate,
            "std_error": se,
            "z" if df is None else "t": ratio,
            "p_value": p_value,
            "lower": estimate - reach * se,
            "upper": estimate + reach * se,
        }
        return pd.DataFrame(columns | self._ratios(L, m, G, vcov, reach, estimate, se), index=list(names))

    def _ratios(self, L, m, G, vcov, reach, estimate, se):
        """Of linear predictors exp of contrasts; of probabilities the ratio of the two that a contrast compares."""
        family = self.model._fitted.family
        if not family.has_classes:
            return {}
        if self.scale == "link":
            if family.ratio is None or not np.allclose(L.sum(axis=1), 0.0):
                return {}
            name, log_ratio, log_se = family.ratio.replace(" ", "_"), estimate, se
        else:
            two = ((L == 1).sum(axis=1) == 1) & ((L == -1).sum(axis=1) == 1) & ((L != 0).sum(axis=1) == 2)
            if not two.all():
                return {}
            one, other, name = L.argmax(axis=1), L.argmin(axis=1), "risk_ratio"
            with np.errstate(divide="ignore", invalid="ignore"):
                log_ratio = np.where(np.isnan(estimate), np.nan, np.log(m[one] / m[other]))
                of_log = delta_errors(G[one] / m[one, None] - G[other] / m[other, None], vcov)
                log_se = np.where(np.isnan(se), np.nan, of_log)
        with np.errstate(over="ignore"):
            ends = (("", 0.0), ("_lower", -1.0), ("_upper", 1.0))
            return {name + end: np.exp(log_ratio + (sign * reach * log_se if sign else 0.0)) for end, sign in ends}


def check_one_of(name, value, allowed):
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def _index(cells):
    if cells.shape[1] == 1:
        return pd.Index(cells.iloc[:, 0], name=cells.columns[0])
    return pd.MultiIndex.from_frame(cells)


def _contrast_weights(method, labels):
    """Names and weights, (n_contrasts, n_levels), of contrasts."""
    k = len(labels)
    if isinstance(method, str):
        check_one_of("method", method, ("pairwise", "reference"))
        if k < 2:
            raise ValueError(f"there is one level, {labels[0]!r}, and nothing to compare it to")
        pairs = [(j, i) for i in range(k) for j in range(i + 1, k) if method == "pairwise" or i == 0]
        weights = np.zeros((len(pairs), k))
        for row, (j, i) in enumerate(pairs):
            weights[row, [j, i]] = 1.0, -1.0
        return [f"{labels[j]} - {labels[i]}" for j, i in pairs], weights
    weights = np.atleast_2d(np.asarray(method, dtype=float))
    if weights.shape[1] != k or not np.isfinite(weights).all() or not weights.any(axis=1).all():
        raise ValueError(
            f"contrasts need a finite weight for each of {k} levels ({listed(map(repr, labels))}), not all 0; got an "
            f"array of shape {weights.shape}"
        )
    if isinstance(method, pd.DataFrame):
        return [str(name) for name in method.index], weights
    terms = [[f"{w:+g} {label}" for w, label in zip(row, labels, strict=True) if w] for row in weights]
    return [" ".join(each).lstrip("+") for each in terms], weights
