"""Tests of the user's own on simulated studies: every study is fitted as the model was, and handed to a function."""

import warnings

import numpy as np
import pandas as pd
from sklearn.base import clone

from sklmm.design.columns import is_frame
from sklmm.design.formula import weights_by_formula
from sklmm.design.grouping import as_group_frame
from sklmm.inference.likelihood_ratio import likelihood_ratio_test
from sklmm.inference.refit_tests import NO_TEST


class WholeFitTest:
    """Fits a clone of the model to a simulated study, and asks a function for its p-value.

    Parameters
    ----------
    model : fitted estimator
    test : callable (model, X, y, groups) -> float, or result with a `p_value`
    X, y, groups, sample_weight, by_row
        The rows of the fit.
    resized : list of str
        Factors whose groups are new ones.
    n_threads : int
    """

    def __init__(self, model, test, X, y, groups, sample_weight, by_row, resized, n_threads=1):
        fitted, recipe = model._fitted, model._recipe
        self.model, self.test, self.n_threads = model, test, n_threads
        self.formula = fitted.formula if is_frame(X) else None
        if self.formula is not None and self.formula.is_counts:
            raise ValueError("a test of your own needs a row a trial, but this model counts them: name coefficients")
        if self.formula is not None and not recipe.response_is_in(X):
            raise ValueError(
                f"a test of your own needs outcomes that can be put in place, but {self.formula.response!r} is no "
                "column of X: name coefficients, or make a column of it"
            )
        n = X.shape[0] if hasattr(X, "shape") else len(X)
        weights = weights_by_formula(model, X, sample_weight)
        _, at, weights, _, _ = model._complete_rows(X, np.arange(n), weights, y, groups)
        at = np.asarray(at)
        self.at = at if weights is None else np.repeat(at, np.asarray(weights, dtype=float).astype(np.intp))
        if is_frame(X) and not isinstance(X, pd.DataFrame):
            X = pd.DataFrame({name: X[name].to_list() for name in X.columns})
        self.X = X if isinstance(X, pd.DataFrame) else np.asarray(X)
        self.weights = recipe.sample_weight if self.formula is not None else None
        self.groups = None if groups is None else pd.DataFrame(as_group_frame(groups, n))
        self.one_factor = groups is not None and self.groups.shape[1] == 1
        if self.one_factor:
            self.groups.columns = fitted.group_names
        self.by_row = {name: np.asarray(values) for name, values in by_row.items() if values is not None}
        self.labels = self._columns_of_factors(model, resized)

    def _columns_of_factors(self, model, resized):
        """By the position of a factor, the column whose labels are its groups: of `groups`, or else of X."""
        fitted, found = model._fitted, {}
        names = list(model.n_groups_)
        sources = [factor.sources for factor in fitted.factors] or [(name,) for name in names]
        for which, (name, source) in enumerate(zip(names, sources, strict=True)):
            if len(source) > 1:
                if name in resized:
                    raise ValueError(
                        f"sizes: groups of {name} are made of several columns ({', '.join(map(str, source))}), of "
                        "which a test of your own cannot be given new ones: name coefficients"
                    )
            elif self.groups is not None:
                found[which] = self.groups.columns.get_loc(source[0])
            elif isinstance(self.X, pd.DataFrame):
                found[which] = self.X.columns.get_loc(source[0])
            else:
                found[which] = fitted.group_columns[fitted.group_names.index(source[0])]
        return found if resized else {}

    def __call__(self, rows, structure, sample):
        index = self.at[sample.index]
        X, groups = self._rows(self.X, index), None
        labels = {column: sample.codes[which] for which, column in self.labels.items()}
        if self.groups is not None:
            groups = _with_labels(self._rows(self.groups, index), labels)
            groups = groups.iloc[:, 0] if self.one_factor else groups
        else:
            X = _with_labels(X, labels)
        by_row = {name: values[index] for name, values in self.by_row.items()}
        y = self.model._labels(rows.y.astype(bool)) if structure.family.has_classes else rows.y
        if self.formula is not None:
            name = self.formula.response
            X[name] = pd.Series(y).astype(X[name].dtype if structure.family.has_classes else float)
            if self.weights is not None:
                X[self.weights] = 1
        given = by_row | ({} if groups is None else {"groups": groups}) | ({"y": y} if self.formula is None else {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = clone(self.model).set_params(n_threads=self.n_threads).fit(X, **given)
            except ValueError:  # such rows cannot be fitted
                return NO_TEST
            if not model.converged_:
                return NO_TEST
            found = self.test(model, X, y, groups)
        p_value = float(getattr(found, "p_value", found))
        if not (0 <= p_value <= 1 or np.isnan(p_value)):
            raise ValueError(f"test must return a p-value, a number between 0 and 1, got {found!r}")
        return p_value, float(model.is_singular_) if model._fitted.factors else np.nan

    @staticmethod
    def _rows(values, index):
        return values.iloc[index].reset_index(drop=True) if isinstance(values, pd.DataFrame) else values[index]


def _with_labels(table, labels):
    """The table with labels in the place of columns."""
    if isinstance(table, pd.DataFrame):
        for column, codes in labels.items():
            table.isetitem(column, codes)
        return table
    for column, codes in labels.items():
        table[:, column] = codes
    return table


class LikelihoodRatio:
    """The p-value of the likelihood ratio test against a smaller model, which is fitted to the same study.

    Parameters
    ----------
    smaller : estimator
    """

    def __init__(self, smaller):
        self.smaller = smaller

    def __call__(self, model, X, y, groups):
        smaller = clone(self.smaller)
        given = {} if groups is None or smaller._recipe is not None else {"groups": groups}
        smaller = smaller.fit(X, **given) if smaller._recipe is not None else smaller.fit(X, y, **given)
        return likelihood_ratio_test(smaller, model)
