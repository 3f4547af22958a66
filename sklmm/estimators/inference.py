"""Inference that all models have: the methods that the estimators get from here."""

import joblib
import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.diagnostics.check_model import check_model
from sklmm.inference import wald
from sklmm.inference.bootstrap import bootstrap, check_resampling
from sklmm.inference.linear_combination import linear_combination
from sklmm.inference.parameters import Parameter
from sklmm.inference.verdict import not_estimated, warn_of_blanks, with_reason
from sklmm.messages import joined
from sklmm.passes.threads import effective_threads
from sklmm.prediction.estimated_means import predictions
from sklmm.prediction.population import average_marginal_effects
from sklmm.reporting.narrative import report_of


class Inference:
    """Mixin: Wald's from the fitted attributes; from the rows of the fit where a method fits again.

    The kind of model says which other intervals it has (``_intervals``), how a resample is fitted
    (``_refit(resampling, n_jobs, *rows, **by_row)``), and what its parameters are besides the fixed effects.
    """

    _intervals = ("wald", "bootstrap")
    _resampling = "cluster"  # how, unless it is said

    @property
    def vcov_(self):
        """Covariance of the coefficients, of the kind that was asked for."""
        return self._covariance()

    def _covariance(self, cov_type=None):
        names = self._state.fixed_names
        return pd.DataFrame(self._fitted.covariance(cov_type), index=names, columns=names)

    def _fixed_effects(self):
        """Names, estimates and covariance of the fixed effects, the intercept first."""
        check_is_fitted(self)
        slopes = np.ravel(self.coef_)
        coef = np.append(self.intercept_, slopes) if self._fitted.fit_intercept else slopes
        return list(self._fitted.fixed_names), coef, self._fitted.covariance()

    def _estimated_effects(self):
        """`_fixed_effects` with NaN in place of what was not estimated, and the mask of that."""
        names, coef, vcov = self._fixed_effects()
        blank = not_estimated(self, names)
        vcov[blank, :] = vcov[:, blank] = np.nan
        return (names, np.where(blank, np.nan, coef), vcov), blank

    def _inference_df(self):
        """Residual degrees of freedom of tests and intervals (t and F); None for normal and chi-squared."""
        return None

    def conf_int(
        self,
        level=0.95,
        method="wald",
        *,
        X=None,
        y=None,
        groups=None,
        sample_weight=None,
        offset=None,
        parameters=None,
        **options,
    ):
        """Confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
        method : {"wald", "profile", "bootstrap"}, default="wald"
            "wald": of the fixed effects, from their standard errors. "profile": the values that a likelihood ratio
            test does not reject; a marginal model has none, as estimating equations have no likelihood. "bootstrap":
            quantiles of estimates from resamples, see the method `bootstrap`. These two cover the random effects'
            standard deviations and correlations, too; they fit the model again and need the rows of the fit.
        X, y, groups, sample_weight, offset
            The rows of the fit, as `fit` got them; not for "wald".
        parameters : None, "fixed", "random" or list of str, default=None
            Which intervals to find; None is all of them ("wald": the fixed effects). A list has names of the result's
            index.
        **options
            For "bootstrap" only: what else the method `bootstrap` takes, such as `n_resamples` and `random_state`, and
            `kind`, see `BootstrapResult.conf_int`. `precision_weight`, which `MixedLinearRegression` may have got, for
            "profile", too.

        Returns
        -------
        intervals : DataFrame
            A row a parameter, columns "lower" and "upper". Fixed effects come first; "sd_age|district" is the standard
            deviation of the random coefficient "age" of the term "district", "cor_age.intercept|district" its
            correlation with the random intercept. NaN, with the reason below, for coefficients that separate the
            classes, and for all of a fit that did not converge ("wald").
        """
        check_is_fitted(self)
        if method == "profile" and method not in self._intervals:
            raise ValueError(
                "method='profile' needs a likelihood, which estimating equations do not have; use 'wald' or 'bootstrap'"
            )
        if method not in self._intervals:
            raise ValueError(f"method must be {joined(map(repr, self._intervals), 'or')}, got {method!r}")
        precision = [options.pop("precision_weight")] if "precision_weight" in options and method == "profile" else []
        if options and method != "bootstrap":
            raise TypeError(f"method={method!r} takes no {', '.join(options)}: they are the bootstrap's")
        level = wald.check_level(level)
        chosen = self._chosen_parameters(parameters)
        if method == "wald":
            random = [found.name for found in chosen if found.kind == "random"]
            if parameters is not None and random:
                others = joined((repr(other) for other in self._intervals if other != "wald"), "or")
                raise ValueError(f"method='wald' gives no intervals for {', '.join(random)}: use {others}")
            effects, blank = self._estimated_effects()
            table = with_reason(self, wald.conf_int(*effects, level=level, df=self._inference_df()), blank)
            return table.iloc[[*(found.positions[0] for found in chosen if found.kind == "fixed")]]
        if method == "profile":
            return self._profile_intervals(chosen, level, X, y, groups, sample_weight, offset, *precision)
        kind = {"kind": options.pop("kind")} if "kind" in options else {}
        result = self.bootstrap(X, y, groups, sample_weight, offset=offset, **options)
        places = {(found.kind, found.positions): j for j, found in enumerate(self._parameters())}
        return result.conf_int(level, **kind).iloc[[places[found.kind, found.positions] for found in chosen]]

    def bootstrap(
        self,
        X=None,
        y=None,
        groups=None,
        sample_weight=None,
        *,
        offset=None,
        n_resamples=1000,
        resampling=None,
        random_state=None,
        n_jobs=None,
        verbose=0,
        **by_row,
    ):
        """Refit the model to resamples.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            The rows of the fit, as `fit` got them.
        n_resamples : int, default=1000
        resampling : {"parametric", "cluster"}, default=None
            "parametric", a mixed model's default: random effects and outcomes are drawn from the fitted model, X and
            groups kept. "cluster", the only one of marginal models: whole groups are drawn with replacement (without
            groups: rows, or lines where a formula counts successes), which takes nothing from the model but that groups
            are independent; of nested factors those of the coarsest one.
        random_state : int, SeedSequence, Generator, RandomState or None, default=None
            The results depend on it alone, whatever `n_jobs`.
        n_jobs : int or None, default=None
            Processes, as joblib counts them: None is 1 outside a joblib context, -1 all.
        verbose : int, default=0
            1 prints how many resamples are done.
        **by_row
            What else `fit` got by row: `time`, `precision_weight`.

        Returns
        -------
        result : BootstrapResult
            With `estimates`, `std_errors()`, `bias()` and `conf_int()`.
        """
        check_is_fitted(self)
        resampling = self._resampling if resampling is None else resampling
        check_resampling(resampling, n_resamples)
        rows, structure = self._rows_of_fit("bootstrap", X, y, groups, sample_weight, offset=offset, **by_row)
        n_threads = effective_threads(self.n_threads) if joblib.effective_n_jobs(n_jobs) == 1 else 1  # processes share
        refit, estimates, accelerations = self._refit(rows, structure, resampling, self._refit_settings(n_threads))
        parameters = self._parameters()
        names = [parameter.name for parameter in parameters]
        original = pd.Series(estimates, index=names)
        original[[not parameter.identified for parameter in parameters]] = np.nan
        accelerations = None if accelerations is None else pd.Series(accelerations, index=names)
        how = {"n_resamples": n_resamples, "random_state": random_state, "n_jobs": n_jobs, "verbose": verbose}
        return bootstrap(refit, original, resampling, **how, accelerations=accelerations)

    def wald_test(self, contrast):
        """Test hypotheses about coefficients: that they, or linear combinations of them, are all 0 or other numbers.

        Parameters
        ----------
        contrast : str, list of str, dict, array-like or DataFrame
            Hypotheses in words, such as "age = 0", "f[T.b] = f[T.c]", "2*x - z = 1"; names with signs or blanks in them
            may stand in back-quotes. Or names of coefficients that are all 0: "livch*" is all whose name begins so,
            interactions aside; "livch" all levels of a factor that are named "livch[T.1]", "livch[T.2]"; with a formula
            also those of any of its terms, such as "livch:age". Or a matrix with a row a contrast and a column a
            coefficient, the intercept first (a DataFrame names the columns it has, a dict gives one contrast's weights
            by name).

        Returns
        -------
        test : WaldTest
            With `statistic`, `df` and `p_value`; `distribution`, which says whether it is a chi-squared or
            an F test; `hypotheses` and `estimates`, what was tested. NaN, with a warning, where it involves
            coefficients that separate the classes, and for a fit that did not converge.

        Raises
        ------
        ValueError
            For what is no linear hypothesis or names no coefficient, for contrasts that are linearly dependent, and
            for those that involve coefficients that the data do not identify.
        """
        names, coef, vcov = self._fixed_effects()
        blank = not_estimated(self, names)
        options = {"df": self._inference_df(), "formula": self._fitted.formula, "blank": blank}
        test = wald.wald_test(names, coef, vcov, contrast, **options)
        warn_of_blanks(self, blank & np.isnan(test.statistic))
        return test

    def linear_combination(self, combination, level=0.95):
        """Estimates of linear combinations of the coefficients, with standard errors, tests and intervals.

        Parameters
        ----------
        combination : str, list of str, dict, array-like or DataFrame
            In words, "f[T.b] - f[T.c]" or "f[T.b] - f[T.c] = 0", or as `wald_test` takes them; each is for itself. What
            stands right of an equality sign is what is tested, 0 if nothing does.
        level : float, default=0.95

        Returns
        -------
        table : Table
            A data frame with remarks: a row a combination, named in words; columns "estimate", "std_error", "z" (or
            "t", of linear mixed models with "df"), "p_value", "lower" and "upper", and "odds_ratio",
            "odds_ratio_lower", "odds_ratio_upper", or likewise hazard ratios, where the link has them. NaN, with the
            reason below and a warning, for what is not estimable.

        Raises
        ------
        ValueError
            For what is no linear combination of coefficients.
        """
        check_is_fitted(self)
        return linear_combination(self, combination, level)

    def average_marginal_effects(
        self, X, features=None, *, sample_weight=None, offset=None, level=0.95, predict_effects="marginal"
    ):
        """Average effects of features on the probability of the event (the second class, or `positive`), or on the mean
        of a measured outcome.

        The effect of a number is the derivative of the probability or mean in it, averaged over the rows; that of a
        feature with two values in the fit, the average change from the smaller to the larger; that of a factor in a
        formula, the average change from its first level to each other one. Which of these is for the fit to say, so
        that rows may be few, or all have one value: an effect at the mean, at a chosen value, on those treated.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            The rows to average over, as `predict` takes them. They are taken as given: standard errors are those
            of the estimates alone. Columns that were made from others, such as squares, count as features of their
            own, unless the model made them itself (`from_formula`).
        features : str or list of str, default=None
            None: all.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows. None is the column of weights that the formula of the model names, where X has it.
        offset : array-like of shape (n_samples,), default=None
            As in `fit`.
        level : float, default=0.95
        predict_effects : {"marginal", "zero"}, default="marginal"
            Of probabilities averaged over the population of groups, or of those in the typical group. Mixed models
            only: a marginal model knows no groups. Of linear models both are the same.

        Returns
        -------
        effects : DataFrame
            A row an effect; columns "estimate", "std_error" (delta method, from the covariance of all parameters), "z"
            or "t" (linear mixed models: with the degrees of freedom of `df`), "p_value", "lower" and "upper". NaN, with
            a `NotEstimableWarning`, where rows would be set to combinations that the fit's data say nothing of, such as
            a cell of two factors without data.
        """
        check_is_fitted(self)
        X, sample_weight, offset = self._complete_rows(X, sample_weight, offset)
        return average_marginal_effects(self, X, features, sample_weight, level, predict_effects, offset)

    def predictions(
        self, X, at=None, by=None, *, sample_weight=None, offset=None, level=0.95, predict_effects="marginal"
    ):
        """Probabilities of the event, or expected outcomes, at chosen values, averaged over rows.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            The rows to average over, as `predict` takes them. They are taken as given.
        at : dict of str -> value or list, default=None
            Variables of the formula, or features, and what all rows are set to: a mean for each combination of values.
        by : str or list of str, default=None
            Averages of the rows with each value of these columns of X, in place of all rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows. None is the column of weights that the formula of the model names, where X has it.
        offset : array-like of shape (n_samples,), default=None
            As in `fit`.
        level : float, default=0.95
        predict_effects : {"marginal", "zero"}, default="marginal"
            Averages over the population of groups, or the typical group; of mixed models with classes only.

        Returns
        -------
        predictions : Table
            A data frame with a row a mean: the values of `by` and `at`, "estimate", "std_error" (delta method), "lower"
            and "upper". NaN, with a `NotEstimableWarning`, for combinations that the fit's data say nothing of.

        See Also
        --------
        sklmm.estimated_means : Means of the levels of factors, and their contrasts.

        Examples
        --------
        >>> from sklmm import GEELogisticRegression
        >>> from sklmm.datasets import load_contraception
        >>> data = load_contraception(as_frame=True).frame
        >>> model = GEELogisticRegression.from_formula("use ~ age + livch + urban", data, groups="district")
        >>> model.predictions(data, at={"urban": ["N", "Y"]})["estimate"].round(3).to_list()
        [0.338, 0.495]
        """
        check_is_fitted(self)
        return predictions(self, X, at, by, predict_effects, level, sample_weight, offset)

    def check_model(self, X=None, y=None, groups=None, sample_weight=None, *, offset=None, random_state=0, **by_row):
        """Can the fit be relied on? One table with a verdict a line.

        Convergence, separation, singularity, aliased and collinear columns, numbers of groups, the error of the
        approximation, influential groups and, where the rows of the fit are given, the condition number of the design
        and tests of residuals; normality of random effects where that takes little time.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            The rows of the fit, as `fit` got them; None leaves out what needs them, and says so.
        random_state : int, default=0
            For residuals of classes and simulated outcomes.
        **by_row
            What else `fit` got by row: `time`, `precision_weight`.

        Returns
        -------
        check : ModelCheck
            It prints; `verdict` is the worst of all, `table` has a row a check with the columns "verdict" ("ok",
            "look", "problem", "not checked"), "value" and "finding"; `inflation` the variance inflation factors of all
            terms; `to_frame()`.

        Raises
        ------
        ValueError
            If the rows are not those of the fit.

        Notes
        -----
        To look at: variance inflation factors from 5 on (a problem: 10), condition numbers from 30 on (100), Cook's
        distances from 0.5 on (1), fewer than 10 groups with random effects (5) or 50 of a robust covariance (10),
        approximations off by 0.1 standard errors (1), tests with p < 0.01. See `sklmm.diagnostics.check_model` for
        where these come from. Generalised inflation factors (Fox and Monette 1992) are squared per coefficient,
        GVIF^(1 / df), to compare factors with numbers.

        Examples
        --------
        >>> from sklmm import MixedLinearRegression
        >>> from sklmm.datasets import load_sleepstudy
        >>> data = load_sleepstudy(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> model.check_model(data).table.loc["number of Subject", "verdict"]
        'ok'
        """
        rows = {"sample_weight": sample_weight, "offset": offset, **by_row}
        return check_model(self, X, y, groups, **rows, random_state=random_state)

    def report(self, level=0.95):
        """The fit in sentences that can be put in a paper, for readers who are no statisticians.

        What was fitted to what and how, each effect in words with its interval, how groups differ, how much is
        explained, and what to doubt. From the numbers of the fit alone.

        Parameters
        ----------
        level : float, default=0.95
            Of the intervals.

        Returns
        -------
        report : Report
            ``print`` it; `sections`, `to_frame()`, and HTML in notebooks.

        Examples
        --------
        >>> from sklmm import MixedLinearRegression
        >>> from sklmm.datasets import load_sleepstudy
        >>> data = load_sleepstudy(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> print(model.report().sections["Effects"][1])
        With each unit of Days more, Reaction is 10.5 higher (95 % interval of the change 7.2 to 13.7; p < 0.0001).
        """
        check_is_fitted(self)
        return report_of(self, level)

    # Names of parameters -----------------------------------------------------------------------------------------

    def _parameters(self):
        """Every parameter of the model, fixed effects first."""
        names, _, vcov = self._fixed_effects()
        known = ~np.isnan(np.diagonal(vcov))
        return [Parameter(str(name), "fixed", (i,), bool(known[i])) for i, name in enumerate(names)]

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
