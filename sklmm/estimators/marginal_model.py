"""What marginal models are to scikit-learn: formulas, parameters, clusters, the working correlation of a fit."""

from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklmm.design.grouping import encode_groups
from sklmm.design.observations import read_times, rows_by_level
from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.estimating.correlation import resolve_correlation
from sklmm.estimating.scoring import fit_gee
from sklmm.estimators.fit_warnings import warn_of_labels, warn_of_marginal_fit, warn_of_row_order
from sklmm.estimators.grouped import GroupedEstimator
from sklmm.estimators.inference import Inference
from sklmm.estimators.reading import check_number
from sklmm.estimators.rows_of_fit import read_rows_of_fit
from sklmm.estimators.running import with_callbacks
from sklmm.exceptions import NoGroupsWarning
from sklmm.fitted import FittedMarginal
from sklmm.inference import criteria
from sklmm.inference.bootstrap import MarginalRefit
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.sandwich import check_cov_type, covariance, residual_df, sandwich_of
from sklmm.messages import shown_label, warn
from sklmm.passes.threads import effective_threads
from sklmm.prediction.predictor import Predictor
from sklmm.reporting.summary import summary_of_gee


class MarginalModel(Inference, GroupedEstimator):
    """Base of the marginal models: averages over the population, by estimating equations."""

    _objective_name = "quasi_likelihood"

    __metadata_request__fit = {"groups": True, "time": True}
    # Averages over the population need no groups; scorers that are handed some leave them where they are.
    __metadata_request__predict = {"groups": False}
    __metadata_request__predict_proba = {"groups": False}
    __metadata_request__predict_log_proba = {"groups": False}
    __metadata_request__decision_function = {"groups": False}
    __metadata_request__score = {"groups": False}

    @classmethod
    def from_formula(cls, formula, data, *, groups=None, time=None, missing="error", sample_weight=None, **params):
        """Fit the model that a formula describes to a data frame.

        Parameters
        ----------
        formula : str
            The response's column, a tilde, and the features as the package formulaic reads them:
            ``"use ~ age*ch + I(age**2) + urban"``. Columns of labels become contrasts with their first level;
            ``C(ch, contr.sum)`` and other functions of formulaic choose otherwise. A dot is all other columns.
        data : DataFrame
        groups, time : str, default=None
            Columns of `data`.
        missing : {"error", "drop"}, default="error"
            What to do about rows with missing values in a column that is used: raise, with their number by column, or
            leave them out, and those in which a term is not defined, such as the logarithm of 0. Later questions leave
            the same out; the probabilities of such rows are NaN. New rows may miss their groups, nothing else.
        sample_weight : str or array-like, default=None
            A column of `data`, or counts by row.
        **params
            Parameters of the estimator.

        Returns
        -------
        model : estimator
            Fitted. It takes data frames with the formula's columns in place of X: ``model.predict_proba(new_data)``. So
            do its clones: ``cross_val_score(model, data, data["use"])``.

        Examples
        --------
        >>> from sklmm import GEELogisticRegression
        >>> from sklmm.datasets import load_contraception
        >>> women = load_contraception(as_frame=True).frame
        >>> model = GEELogisticRegression.from_formula("use ~ age + urban", women, groups="district")
        >>> model.predict_proba(women.head(3)).shape
        (3, 2)
        """
        if "group_features" in params or "time_feature" in params:
            raise ValueError("with a formula, groups= and time= name columns of the data")
        return cls._of_formula(formula, data, missing, sample_weight, params, groups=groups, time=time)

    @staticmethod
    def _parameters_of(design):
        """The parameters that a formula sets: none, and it may not have random effects."""
        if design.random_effects:
            raise ValueError(
                "formula: terms with a bar are random effects, which a marginal model does not have: name the clusters "
                "in groups=, or use MixedLogisticRegression"
            )
        return {}

    # Fitting ------------------------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X, y=None, groups=None, sample_weight=None, time=None, offset=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            A model that `from_formula` has made, and a clone of it, reads its formula again where X is a data frame.
        y : array-like of shape (n_samples,)
            Any two labels. None, for a model with a formula and a data frame: the formula's response.
        groups : array-like of shape (n_samples,), default=None
            Group labels: rows of different groups are independent. Not together with `group_features`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row counts: under "independence" and "exchangeable" weight 2 is the row twice in its group, 0 is the row
            left out. Where rows have times of their own, a weight scales the information of its row, so that one
            weight for all of a group counts the group. With ``ddof_correction=False`` weights scale the information
            of rows under every structure, as in geepack.
        time : array-like of shape (n_samples,), default=None
            Times: numbers or dates. Not together with `time_feature`. Structures that depend on times take the order
            of a group's rows where there are none, with a warning.
        offset : array-like of shape (n_samples,), default=None
            What is added to the linear predictor, such as the logarithm of an exposure: a feature whose coefficient is
            1. Not together with `offset_feature`.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            For invalid input, and where the working correlation or the covariance asked for does not exist for these
            data.
        """
        return self._fit(X, y, groups=groups, sample_weight=sample_weight, time=time, offset=offset)

    def _check_parameters(self):
        check_cov_type(self.cov_type)
        if not (isinstance(self.dispersion, str) and self.dispersion == "estimate"):
            what = "'estimate' or a number > 0"
            check_number(self, "dispersion", Real, what, lambda value: 0 < value < np.inf)
        if not isinstance(self.ddof_correction, (bool, np.bool_)):
            raise ValueError(f"ddof_correction must be True or False, got {self.ddof_correction!r}")
        resolve_correlation(self.correlation)

    def _estimate(self, training, progress):
        """Fit the model: what `Fitted` holds, and the fitted attributes."""
        rows, target, weights, design = training.rows, training.target, training.weights, training.design
        if design is not None:
            design.group_names = []  # a marginal model predicts without them
        correlation = resolve_correlation(self.correlation)
        codes, levels = self._read_clusters(rows)
        factors = {} if codes is None else {next(iter(rows.groups)): (codes, levels)}
        times = None if rows.time is None or not correlation.uses_time else read_times(rows.time)
        with progress.iterations() as told:
            fit = fit_gee(
                rows.X, target, correlation=correlation, codes=codes, labels=levels, sample_weight=weights,
                n_clusters=None if levels is None else len(levels), times=times if codes is not None else None,
                offset=rows.offset, family=self._family(),
                fit_intercept=bool(self.fit_intercept),
                dispersion=None if self.dispersion == "estimate" else float(self.dispersion),
                ddof_correction=bool(self.ddof_correction), penalty=getattr(self, "penalty", None),
                **self._settings(effective_threads(self.n_threads, target.size)), progress=told,
            )  # fmt: skip
        if codes is not None and times is None and correlation.uses_time and fit.cluster_sizes[1] > 1:
            warn_of_row_order(correlation)
        warn_of_marginal_fit(fit, rows.X, rows.names, correlation, self.cov_type)

        n_coefficients, n_clusters = fit.bread.shape[0], fit.n_clusters
        sandwich = sandwich_of(fit, training.n_obs)
        covariance(self.cov_type, **sandwich)  # an error comes before an earlier fit is lost
        robust, A = covariance("robust", **sandwich), fit.independence_information
        size = None if levels is None else rows_by_level(codes, weights, fit.level_rows)
        fitted = FittedMarginal(
            **self._about(training, rows.names, fit, factors),
            family=self._family(),
            value=fit.quasi_likelihood,
            levels=levels,
            level_rows=size,
            correlation=correlation,
            cov_type=self.cov_type,
            sandwich=sandwich,
            coordinates=fit.coordinates,
            aliased=[j + bool(self.fit_intercept) for j in fit.aliased],
            dispersion_is_fixed=self.dispersion != "estimate",
            ddof_correction=bool(self.ddof_correction),
            had_times=times is not None,
            trouble=fit.trouble,
            penalty=getattr(self, "penalty", None),
        )
        return fitted, {
            **self._attributes_of(fit),
            "correlation_params_": fit.alpha,
            "correlation_times_": fit.times,
            "correlation_name_": correlation.name,
            "dispersion_": fit.dispersion,
            "quasi_likelihood_": fit.quasi_likelihood,
            "qic_": criteria.qic(fit.quasi_likelihood, A, robust),
            "qicu_": criteria.qicu(fit.quasi_likelihood, n_coefficients),
            "cic_": criteria.cic(A, robust),
            "cov_type_": self.cov_type,
            "n_groups_": dict(fitted.n_groups),
            "cluster_sizes_": fit.cluster_sizes if levels is None else (size.min().item(), size.max().item()),
            "df_resid_": residual_df(n_clusters, n_coefficients),
        }

    def _read_clusters(self, rows):
        """Codes and levels of the groups; None, None without groups."""
        if len(rows.groups) > 1:
            raise ValueError(
                "estimating equations take one grouping factor, the coarsest, but got "
                f"{', '.join(map(repr, rows.groups))}: rows of different groups must be independent. Name that one "
                f"alone (nested groups are inside it); for crossed factors use {self._mixed}"
            )
        if not rows.groups:
            warn(
                f"fit got no groups: every row is one of its own, as in {self._plain}. Name the grouping "
                "column of X in group_features, or pass groups= (to meta-estimators: with metadata routing enabled)",
                NoGroupsWarning,
            )
            return None, None
        name, labels = next(iter(rows.groups.items()))
        codes, levels = encode_groups(labels, name)
        warn_of_labels(name, levels, len(codes))
        if len(levels) == 1 and self.cov_type != "naive":
            raise ValueError(
                f"{name} has one group only ({shown_label(levels[0])}): robust covariances rest on independent groups. "
                "Give more groups, or cov_type='naive'"
            )
        return codes, levels

    # The rows again ----------------------------------------------------------------------------------------------

    def _rows_of_fit(self, what, X, y, groups, sample_weight, time=None, offset=None):
        """The rows of the fit, passed once more, and their groups: checked and coded as `fit` did."""
        needs_time = self._fitted.correlation.uses_time and self._fitted.time_column is None and self._fitted.had_times
        rows, target, weights = read_rows_of_fit(self, what, X, y, groups, sample_weight, offset, time, needs_time)
        code_of, factors = [], []
        if self.n_groups_:
            name, labels = next(iter(rows.groups.items()))
            codes, levels = encode_groups(labels, name)
            code_of.append(codes)
            factors.append(FactorStructure(len(levels), [], [], name))
        times = None if rows.time is None or not self._fitted.correlation.uses_time else read_times(rows.time)
        observations = Observations(rows.X, target, code_of, weights, times, rows.offset, lines=rows.line)
        return observations, Structure(factors, family=self._fitted.family)

    def _refit(self, rows, structure, resampling, settings):
        """How a resample is fitted, the estimates of the fit itself; intervals have no accelerations."""
        if resampling != "cluster":
            raise ValueError("a marginal model says nothing of how outcomes are drawn: use resampling='cluster'")
        fitted = self._fitted
        settings |= {
            "correlation": fitted.correlation,
            "fit_intercept": fitted.fit_intercept,
            "dispersion": float(self.dispersion_) if fitted.dispersion_is_fixed else None,
            "ddof_correction": fitted.ddof_correction,
            "penalty": fitted.penalty,
        }
        return MarginalRefit(rows, structure, settings), self._fixed_effects()[1], None

    # Predictions -------------------------------------------------------------------------------------------------

    def _linear_predictor(self, X, offset, predict_effects):
        if predict_effects not in (None, "marginal"):
            raise ValueError(
                "a marginal model's predictions are averages over the population: predict_effects can be 'marginal' "
                f"only, got {predict_effects!r}"
            )
        check_is_fitted(self)
        rows = self._read_new_rows(X, None, offset)
        warn_of_rows(self, rows.X)
        return Predictor(np.ravel(self.coef_), *np.ravel(self.intercept_), []).means(rows.X, [], "zero", rows.offset)

    # What the fit says, made when it is asked for -----------------------------------------------------------

    def vcov(self, cov_type=None):
        """Covariance of the coefficients, of any kind: no data are needed.

        Parameters
        ----------
        cov_type : {"robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"}, default=None
            None is the `cov_type` of the fit.

        Returns
        -------
        vcov : DataFrame
            NaN in the rows and columns of coefficients that are not identified.

        Raises
        ------
        ValueError
            Where the correction does not exist: a group that determines a coefficient alone leaves no residual to
            correct.
        """
        check_is_fitted(self)
        return self._covariance(cov_type)

    @property
    def working_correlation_(self):
        """Working correlation matrix."""
        correlation, times, alpha = self._state.correlation, self.correlation_times_, self.correlation_params_
        if len(times) == 1 or (alpha.size == 0 and correlation.moments is not None):
            return np.eye(len(times))
        return correlation.matrix(alpha, times)

    def _inference_df(self):
        return self.df_resid_

    def summary(self, level=0.95, correlation=False):
        """Tables of the fit: coefficients, working correlation, criteria.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level of the intervals.
        correlation : bool, default=False
            Whether to show the correlation of the estimated coefficients, too.

        Returns
        -------
        summary : FitSummary
            ``print`` it; or take its `coefficients`, a DataFrame, `to_frame()`, `to_markdown()`, `to_latex()`.
        """
        check_is_fitted(self)
        return summary_of_gee(self, level, correlation)
