"""What estimates and their covariance say by themselves (Wald): errors, intervals, tests of coefficients."""

from collections import namedtuple
from numbers import Real

import numpy as np
import pandas as pd
from scipy import linalg, stats

from sklmm.inference.hypotheses import equations, in_words, read_hypotheses
from sklmm.inference.tables import Table
from sklmm.messages import listed

_RANK_TOLERANCE = 1e-10


class WaldTest(namedtuple("WaldTest", ["statistic", "df", "p_value"])):
    """Result of a Wald test; unpacks into `statistic`, `df` and `p_value`.

    Attributes
    ----------
    statistic : float
        The quadratic form W, chi-squared under the hypothesis; or, with residual degrees of freedom, F = W / df.
    df : int
        Degrees of freedom: the number of contrasts.
    p_value : float
    df_resid : float or None
        Residual degrees of freedom, those of the F distribution's denominator. None for chi-squared.
    distribution : {"chi-squared", "F"}
        The statistic's distribution under the hypothesis.
    estimates : DataFrame
        What was tested, a row a contrast, the left side of its hypothesis: the columns "estimate", "std_error" and the
        limits of 95 % intervals, one at a time, "lower" and "upper".
    hypotheses : list of str
        In words: "age = 0", "livch2 - livch1 = 0", "2 x - z = 1".
    """

    def __new__(cls, statistic, df, p_value, df_resid=None, contrasts=((), (), (), (), None)):
        self = super().__new__(cls, statistic, df, p_value)
        self.df_resid, self._contrasts = df_resid, contrasts  # words, right sides, values, standard errors, df
        return self

    @property
    def estimates(self):
        names, _, values, errors, df = self._contrasts
        table = conf_int(names, values, np.diag(np.square(errors)), df=df)
        table.insert(0, "estimate", values)
        table.insert(1, "std_error", errors)
        return table

    @property
    def hypotheses(self):
        return equations(*self._contrasts[:2])

    @property
    def distribution(self):
        return "chi-squared" if self.df_resid is None else "F"

    def to_frame(self):
        """One row, the hypotheses; columns "statistic", "df", with F "df_resid", and "p_value"."""
        residual = {} if self.df_resid is None else {"df_resid": self.df_resid}
        values = {"statistic": self.statistic, "df": self.df, **residual, "p_value": self.p_value}
        return Table(values, index=[", ".join(self.hypotheses)])

    def __repr__(self):
        residual = "" if self.df_resid is None else f", df_resid={self.df_resid!r}"
        tested = f"hypotheses=[{listed(map(repr, self.hypotheses))}], " if self.hypotheses else ""
        return (
            f"WaldTest({tested}statistic={self.statistic!r}, df={self.df!r}{residual}, p_value={self.p_value!r}, "
            f"distribution={self.distribution!r})"
        )

    def _repr_html_(self):
        return self.to_frame()._repr_html_()


def wald_table(names, coef, vcov, level=0.95, df=None, blank=None, ratio="odds ratio", right=0.0):
    """The coefficient table.

    Parameters
    ----------
    names : sequence of str
    coef : array-like of shape (n,)
    vcov : array-like of shape (n, n)
        NaN in the rows and columns of coefficients that are not identified.
    level : float, default=0.95
    df : float or None, default=None
        Residual degrees of freedom, see `intervals.reference_distribution`.
    blank : array-like of bool, shape (n,), optional
        Coefficients of which the estimate is shown and nothing else, see `not_estimated`.
    ratio : str or None
        What exp of a coefficient is, see `Bernoulli.ratio`.
    right : float or array-like of shape (n,), default=0.0
        What coefficients are tested to be.

    Returns
    -------
    DataFrame
        A row a coefficient; columns "estimate", "std_error", "z" (or "t", with residual degrees of freedom),
        "p_value", "lower", "upper" and, of a link with a ratio, "odds_ratio", "odds_ratio_lower", "odds_ratio_upper" or
        likewise. What follows from a NaN standard error is NaN, and so are p-values and intervals where `df` is not
        positive.
    """
    coef = np.asarray(coef, dtype=float)
    own = hasattr(df, "each")  # degrees of freedom that differ from coefficient to coefficient
    df = degrees_of_each(df, np.eye(coef.size))
    se = standard_errors(vcov)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (coef - right) / se
    is_normal = df is None or (own and not np.isfinite(df).any())
    columns = {
        "estimate": coef,
        "std_error": se,
        **({} if is_normal or not own else {"df": df}),
        "z" if is_normal else "t": z,
        "p_value": 2 * reference_distribution(df).sf(np.abs(z)),
    }
    table = pd.DataFrame(columns, index=list(names))
    # By position: two columns of X may share a name.
    table[["lower", "upper"]] = conf_int(names, coef, vcov, level, df=df).to_numpy()
    if ratio is not None:
        name = ratio.replace(" ", "_")
        table[[name, f"{name}_lower", f"{name}_upper"]] = _ratios(name, names, coef, vcov, level, df).to_numpy()
    if blank is not None:
        table.iloc[np.asarray(blank, dtype=bool), 1:] = np.nan
    return table


def contrast_matrix(names, contrast, formula=None):
    """A linear hypothesis as a matrix with a column a coefficient, see `read_hypotheses`."""
    return read_hypotheses(names, contrast, formula)[0]


def wald_test(names, coef, vcov, contrast, df=None, formula=None, blank=None):
    """Test that linear combinations of the coefficients are all what a hypothesis says, as a rule 0.

    Parameters
    ----------
    names : sequence of str
    coef : array-like of shape (n,)
    vcov : array-like of shape (n, n)
    contrast : str, list of str, dict, array-like or DataFrame
        See `read_hypotheses`.
    df : float or None, default=None
        Residual degrees of freedom: None for a chi-squared test, else an F test. Its p-value is NaN unless `df` > 0.
    formula : FormulaDesign or None
        See `read_hypotheses`.
    blank : array-like of bool, shape (n,), optional
        Coefficients that were not estimated, see `not_estimated`: what involves them is NaN.

    Returns
    -------
    WaldTest

    Raises
    ------
    ValueError
        If contrasts are linearly dependent, or involve a coefficient that the data do not identify.
    """
    coef, vcov = np.asarray(coef, dtype=float), np.asarray(vcov, dtype=float)
    matrix, right = read_hypotheses(names, contrast, formula)
    if not np.isfinite(matrix).all():
        raise ValueError("a contrast matrix must hold finite numbers")
    involved = (matrix != 0).any(axis=0)
    unknown = involved & np.isnan(np.diagonal(vcov))
    if unknown.any():
        dropped = [str(name) for name, out in zip(names, unknown, strict=True) if out]
        raise ValueError(f"no standard error for {listed(map(repr, dropped))}: left out of the fit as not identified")
    _check_rank(matrix)
    if blank is not None and (involved & blank).any():
        nothing, df = np.full(len(matrix), np.nan), np.nan if hasattr(df, "joint") else df
        contrasts = in_words(matrix, list(map(str, names))), right, nothing, nothing, df
        return WaldTest(np.nan, len(matrix), np.nan, df, contrasts)
    scale, each = 1.0, df
    if hasattr(df, "joint"):
        each, (df, scale) = df.each(matrix), df.joint(matrix)
        each, df = (None, None) if df == np.inf and scale == 1.0 else (each, df)
    names = [str(name) for name, used in zip(names, involved, strict=True) if used]
    matrix, coef, vcov = matrix[:, involved], coef[involved], vcov[np.ix_(involved, involved)]
    value, spread = matrix @ coef, matrix @ vcov @ matrix.T
    # In units of each contrast's standard error: columns of X may differ in scale by orders of magnitude.
    se = standard_errors(spread)
    try:
        factor = linalg.cholesky(spread / se[:, None] / se, lower=True)
        statistic = float(np.sum(linalg.solve_triangular(factor, (value - right) / se, lower=True) ** 2))
    except (linalg.LinAlgError, ValueError):
        raise ValueError("the covariance of these contrasts is singular: they cannot be tested jointly") from None
    n_contrasts = matrix.shape[0]
    if df is None:
        p_value = float(stats.chi2.sf(statistic, n_contrasts))
    else:
        statistic *= scale / n_contrasts
        p_value = float(stats.f.sf(statistic, n_contrasts, df))
    return WaldTest(statistic, n_contrasts, p_value, df, (in_words(matrix, names), right, value, se, each))


def _check_rank(matrix):
    """Every row must add something to the rows above it."""
    basis = np.zeros((0, matrix.shape[1]))
    if matrix.shape[0] == 0:
        raise ValueError("there is no contrast to test")
    for i, row in enumerate(matrix):
        norm = np.linalg.norm(row)
        if norm == 0:
            raise ValueError(f"row {i} of the contrast matrix is all 0")
        row = row / norm
        for _ in range(2):  # the second pass removes what rounding left of the first
            row = row - basis.T @ (basis @ row)
        rest = np.linalg.norm(row)
        if rest < _RANK_TOLERANCE:
            raise ValueError(
                f"the contrasts are linearly dependent: row {i} follows from the rows above it; leave it out"
            )
        basis = np.vstack([basis, row / rest])


def degrees_of_each(df, contrasts):
    """Degrees of freedom of each contrast: of a method of `degrees_of_freedom` its own, else a number or None."""
    return df.each(contrasts) if hasattr(df, "each") else df


def reference_distribution(df=None):
    """Distribution of an estimate's error in units of its standard error.

    Parameters
    ----------
    df : float, ndarray or None, default=None
        None: standard normal. Else Student's t with so many degrees of freedom; with none left (`df` <= 0) whatever
        the distribution is asked for is NaN.

    Returns
    -------
    scipy.stats distribution
    """
    return stats.norm() if df is None else stats.t(df)


def check_level(level):
    """The confidence level as a float; an error unless it lies between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, Real):
        raise TypeError(f"level must be a number between 0 and 1, got {level!r}")
    if not 0 < level < 1:
        hint = f"; for {level:g} % give {level / 100:g}" if 1 < level < 100 else ""
        raise ValueError(f"level must be between 0 and 1, got {level!r}{hint}")
    return float(level)


def conf_int(names, coef, vcov, level=0.95, df=None):
    """Confidence intervals of the coefficients.

    Parameters
    ----------
    names : sequence of str
    coef : array-like of shape (n,)
    vcov : array-like of shape (n, n)
    level : float, default=0.95
    df : float or None, default=None
        Residual degrees of freedom, see `reference_distribution`.

    Returns
    -------
    DataFrame
        A row a coefficient, columns "lower" and "upper"; NaN where the standard error is, and without residual
        degrees of freedom.
    """
    level = check_level(level)
    coef = np.asarray(coef, dtype=float)
    df = degrees_of_each(df, np.eye(coef.size))
    reach = reference_distribution(df).isf((1 - level) / 2) * standard_errors(vcov)
    return pd.DataFrame({"lower": coef - reach, "upper": coef + reach}, index=list(names))


def odds_ratios(names, coef, vcov, level=0.95, df=None):
    """Odds ratios, the exponentials of the coefficients, with intervals.

    Parameters
    ----------
    names, coef, vcov, level, df
        As in `conf_int`.

    Returns
    -------
    DataFrame
        A row a coefficient, columns "odds_ratio", "lower" and "upper".
    """
    return _ratios("odds_ratio", names, coef, vcov, level, df)


def hazard_ratios(names, coef, vcov, level=0.95, df=None):
    """Hazard ratios, the exponentials of the coefficients of a complementary log-log model, with intervals.

    Parameters
    ----------
    names, coef, vcov, level, df
        As in `conf_int`.

    Returns
    -------
    DataFrame
        A row a coefficient, columns "hazard_ratio", "lower" and "upper".
    """
    return _ratios("hazard_ratio", names, coef, vcov, level, df)


def _ratios(name, names, coef, vcov, level, df):
    table = conf_int(names, coef, vcov, level, df=df)
    table.insert(0, name, np.asarray(coef, dtype=float))
    with np.errstate(over="ignore"):  # under separation exp overflows to inf, which is what there is to say
        return np.exp(table)


def standard_errors(vcov):
    """Square roots of the diagonal; NaN where it is NaN or negative.

    Parameters
    ----------
    vcov : array-like of shape (n, n)

    Returns
    -------
    ndarray of shape (n,)
    """
    variances = np.diagonal(np.asarray(vcov, dtype=float))
    return np.sqrt(np.where(variances >= 0, variances, np.nan))


def correlation(vcov):
    """Correlation matrix of a covariance matrix; NaN in the rows and columns of variances that are 0 or NaN.

    Parameters
    ----------
    vcov : array-like of shape (n, n)

    Returns
    -------
    ndarray of shape (n, n)
    """
    vcov = np.asarray(vcov, dtype=float)
    se = standard_errors(vcov)
    se = np.where(se > 0, se, np.nan)
    corr = np.clip(vcov / se[:, None] / se, -1.0, 1.0)
    np.fill_diagonal(corr, np.where(np.isnan(se), np.nan, 1.0))
    return corr
