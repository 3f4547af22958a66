"""Fits to multiply imputed tables as one: Rubin's rules.

Of m completed tables let Q_i be an estimate and U_i its variance. With the mean Q of the Q_i, the mean U of the U_i and
the variance B of the Q_i between tables (divisor m - 1),

    T = U + (1 + 1/m) B,    r = (1 + 1/m) B / U,    lambda = (1 + 1/m) B / T.

(Q - q) / sqrt(T) is about t with nu = (m - 1) / lambda^2 degrees of freedom (Rubin 1987, equations 3.1.2 to 3.1.7), and
(r + 2 / (nu + 3)) / (r + 1) of the information is missing (3.1.10). Where the complete table has few degrees of freedom
nu_com, the t distribution has 1 / (1 / nu + 1 / nu_obs) with nu_obs = (nu_com + 1) / (nu_com + 3) nu_com (1 - lambda)
(Barnard and Rubin 1999).

References
----------
Barnard J, Rubin DB (1999). Small-sample degrees of freedom with multiple imputation. Biometrika 86, 948-955.

Rubin DB (1987). Multiple Imputation for Nonresponse in Surveys. Wiley.
"""

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklmm.fitted import FittedLinear, FittedMarginal, FittedMixed, fitted_of
from sklmm.inference.parameters import Estimates
from sklmm.inference.tables import Table
from sklmm.inference.verdict import not_estimated
from sklmm.inference.wald import check_level, reference_distribution, standard_errors
from sklmm.messages import listed


@dataclass(frozen=True)
class PooledFits:
    """Several fits as one, see `pool`.

    Attributes
    ----------
    model : str
        The class of the models.
    n_fits : int
    names : list of str
        Of the coefficients.
    coef : ndarray of shape (n,)
        Means of their estimates; NaN for those that no fit or not every one has.
    within, between : ndarray of shape (n, n)
        The mean covariance of the estimates, and that of the estimates between the fits.
    df_complete : ndarray of shape (n,)
        Degrees of freedom that tests of one complete table have; infinite for the normal distribution.
    ratio : str or None
        What exp of a coefficient is.
    random : Table
        What is not a coefficient (standard deviations, correlations; of a marginal model dispersion and working
        correlation), a row each: "mean", and between the fits "sd", "lowest" and "highest".
    notes : tuple of str
    """

    model: str
    n_fits: int
    names: list
    coef: np.ndarray
    within: np.ndarray
    between: np.ndarray
    df_complete: np.ndarray
    ratio: str | None
    random: pd.DataFrame
    notes: tuple = ()

    @property
    def vcov(self):
        """Total covariance of the coefficients, T."""
        total = self.within + (1 + 1 / self.n_fits) * self.between
        return pd.DataFrame(total, index=self.names, columns=self.names)

    def _parts(self):
        """Relative increase r, share lambda, Rubin's degrees of freedom and those of tests."""
        extra, inside = (1 + 1 / self.n_fits) * np.diagonal(self.between), np.diagonal(self.within)
        with np.errstate(divide="ignore", invalid="ignore"):
            increase, share = extra / inside, extra / (extra + inside)
            rubin = (self.n_fits - 1) / share**2
            observed = np.where(
                np.isinf(self.df_complete),
                np.inf,
                (self.df_complete + 1) / (self.df_complete + 3) * self.df_complete * (1 - share),
            )
            df = 1 / (1 / rubin + 1 / observed)
        return increase, rubin, np.where(self.df_complete > 0, df, np.nan)

    def summary(self, level=0.95):
        """The coefficient table.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        table : Table
            A row a coefficient; columns "estimate", "std_error", "df", "t", "p_value", "lower", "upper", of a link with
            ratios "odds_ratio" or "hazard_ratio" with its limits, "relative_increase", by how much missing values
            increase the variance, and "missing_information", the fraction that is lost.
        """
        increase, rubin, df = self._parts()
        se = standard_errors(self.vcov)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = self.coef / se
            missing = np.where(np.isinf(rubin), 0.0, (increase + 2 / (rubin + 3)) / (increase + 1))
        columns = {"estimate": self.coef, "std_error": se, "df": np.where(np.isnan(se), np.nan, df), "t": t}
        table = Table(columns | {"p_value": 2 * reference_distribution(df).sf(np.abs(t))}, index=self.names)
        ends = self.conf_int(level)
        table[["lower", "upper"]] = ends.to_numpy()
        if self.ratio is not None:
            name = self.ratio.replace(" ", "_")
            with np.errstate(over="ignore"):
                table[name] = np.exp(self.coef)
                table[[f"{name}_lower", f"{name}_upper"]] = np.exp(ends.to_numpy())
        table["relative_increase"] = increase
        table["missing_information"] = np.where(np.isnan(se), np.nan, missing)
        for note in self.notes:
            table.with_note(note)
        return table

    def conf_int(self, level=0.95):
        """Confidence intervals of the coefficients: a DataFrame with the columns "lower" and "upper"."""
        df = self._parts()[-1]
        reach = reference_distribution(df).isf((1 - check_level(level)) / 2) * standard_errors(self.vcov)
        return pd.DataFrame({"lower": self.coef - reach, "upper": self.coef + reach}, index=self.names)

    def to_frame(self):
        """The coefficient table as a plain data frame."""
        return self.summary().to_frame()

    def _title(self):
        return f"{self.model}: {self.n_fits} fits pooled by Rubin's rules"

    def __repr__(self):
        blocks = [self._title(), repr(self.summary())]
        if len(self.random):
            blocks += ["Means over the fits, and how they differ:", repr(self.random)]
        return "\n".join(blocks)

    def _repr_html_(self):
        blocks = [f"<p><strong>{html.escape(self._title())}</strong></p>", self.summary()._repr_html_()]
        if len(self.random):
            blocks += ["<p>Means over the fits, and how they differ:</p>", self.random._repr_html_()]
        return "\n".join(blocks)


def pool(fits):
    """Pool the fits of one model to multiply imputed tables, by Rubin's rules.

    Parameters
    ----------
    fits : iterable of fitted models
        Two or more, one a completed table: all of one class, with the same coefficients, link, groups and rows.

    Returns
    -------
    pooled : PooledFits
        It prints. `summary(level)`, `conf_int(level)`, `vcov` and `to_frame()` of the coefficients; `random`, the means
        of standard deviations and correlations, which have no rule of their own.

    Raises
    ------
    TypeError
        If something is not a fitted model of this package (of a pipeline it is the last step).
    ValueError
        If there are fewer than two fits, if one is there twice, if they differ in their class, coefficients, link,
        groups, number of rows or in how they were fitted, or if one did not converge.

    Notes
    -----
    Degrees of freedom are Barnard and Rubin's (1999), from those of the models' own tests: residual ones,
    Satterthwaite's, or none, where tests are normal. See `sklmm.inference.pooling` for the formulas. The imputations
    must be proper, and allow for the groups: with the group's mean or random effects among what predicts.

    References
    ----------
    Rubin DB (1987). Multiple Imputation for Nonresponse in Surveys. Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from sklmm import MixedLinearRegression, pool
    >>> from sklmm.datasets import load_sleepstudy
    >>> data, random = load_sleepstudy(as_frame=True).frame, np.random.default_rng(0)
    >>> fits = []
    >>> for _ in range(3):
    ...     table = data.assign(Days=np.where(data.index % 7, data.Days, random.integers(0, 10, len(data))))
    ...     fits.append(MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", table))
    >>> pooled = pool(fits)
    >>> bool((pooled.summary().missing_information < 1).all())
    True
    """
    if hasattr(fits, "fit"):
        raise TypeError(f"pool takes several fits in a list, got one {type(fits).__name__}")
    fits = list(fits.values() if hasattr(fits, "values") else fits)
    if len(fits) < 2:
        raise ValueError(f"pool takes two fits or more, got {len(fits)}: one fit has no spread between tables")
    for i, model in enumerate(fits):
        _check_fitted(i, model)
    _check_alike(fits)
    names = [str(name) for name in fits[0]._fixed_effects()[0]]
    found = [model._fixed_effects()[1:] for model in fits]
    coefs, vcovs = np.array([coef for coef, _ in found]), np.array([vcov for _, vcov in found])
    aliased = np.isnan(np.diagonal(vcovs, axis1=1, axis2=2))
    for i, own in enumerate(aliased):
        if (own != aliased[0]).any():
            differing = listed(repr(names[j]) for j in np.flatnonzero(own != aliased[0]))
            raise ValueError(
                f"fits[0] and fits[{i}] do not estimate the same coefficients: {differing} is identified in one alone, "
                "so that the others mean different things"
            )
    blank = np.any([not_estimated(model, names) for model in fits], axis=0)
    notes = []
    if blank.any():
        lost = listed(repr(name) for name, out in zip(names, blank, strict=True) if out)
        notes.append(f"In some fits the classes are separated by {lost}: there is no finite estimate to pool.")
    if aliased[0].any():
        lost = listed(repr(name) for name, out in zip(names, aliased[0], strict=True) if out)
        notes.append(f"Not identified, and not pooled: {lost}.")
    if len({getattr(model, "n_quadrature_", 1) for model in fits}) > 1:
        notes.append("The fits differ in their number of quadrature nodes.")
    if any(getattr(model, "is_singular_", False) for model in fits):
        notes.append("Some fits are singular: a variance is 0, or a correlation -1 or 1.")
    lost = blank | aliased[0]
    coefs[:, lost] = np.nan
    vcovs[:, lost, :] = vcovs[:, :, lost] = np.nan
    if not coefs[:, ~lost].size or not np.ptp(coefs[:, ~lost], axis=0).any():
        notes.append("The fits agree in all coefficients: were they of different tables?")
    return PooledFits(
        type(fits[0]).__name__,
        len(fits),
        names,
        coefs.mean(axis=0),
        vcovs.mean(axis=0),
        np.cov(coefs, rowvar=False, ddof=1).reshape(len(names), len(names)),
        np.mean([_df(model, len(names)) for model in fits], axis=0),
        fits[0]._fitted.family.ratio,
        _random(fits),
        tuple(notes),
    )


def _check_fitted(i, model):
    if fitted_of(model) is not None:
        if not model.converged_:
            raise ValueError(f"fits[{i}] did not converge ({model.fit_report_.verdict}): fit it again, or leave it out")
        return
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise NotFittedError(f"fits[{i}] is not fitted: call its fit method before pooling it") from None
    except TypeError:
        pass
    raise TypeError(
        f"fits[{i}] is a {type(model).__name__}; pool takes fitted models of this package (of a pipeline its last step)"
    )


def _facts(model):
    """What the fits must have in common."""
    fitted = model._fitted
    facts = {
        "class": type(model).__name__,
        "coefficients": [str(name) for name in model._fixed_effects()[0]],
        "link": fitted.family.name,
        "number of rows": float(f"{model.n_obs_:.10g}"),
        "groups": fitted.n_groups,
        "offset": fitted.has_offset,
        "parameters": [parameter.name for parameter in model._parameters()],
    }
    if fitted.family.has_classes:
        facts |= {"classes": model.classes_.tolist(), "event": model.classes_.tolist()[fitted.event]}
    if isinstance(fitted, FittedMarginal):
        facts |= {"cov_type": fitted.cov_type, "correlation": model.correlation_name_}
    if isinstance(fitted, FittedLinear):
        facts |= {"method": "reml" if fitted.reml else "ml", "df": fitted.df}
    return facts


def _check_alike(fits):
    for i, model in enumerate(fits):
        if any(model is other for other in fits[:i]):
            raise ValueError(f"fits[{i}] is there twice: each completed table needs a fit of its own")
    expected = _facts(fits[0])
    for i, model in enumerate(fits[1:], start=1):
        found = _facts(model)
        for what, value in expected.items():
            if found.get(what) != value:
                raise ValueError(
                    f"only fits of one model to completed tables of the same rows can be pooled: fits[0] and fits[{i}] "
                    f"differ in their {what}, {value} and {found.get(what)}"
                )


def _df(model, n):
    """Degrees of freedom of the tests of each coefficient."""
    df = model._inference_df()
    each = df.each(np.eye(n)) if hasattr(df, "each") else df
    each = np.full(n, np.inf if each is None else each, dtype=float)
    return np.where(np.isnan(each), np.inf, each)


def _random(fits):
    """Means over the fits of what is no coefficient, and its spread between them."""
    values = pd.DataFrame([_other_parameters(model) for model in fits])
    found = {"mean": values.mean(), "sd": values.std(ddof=1), "lowest": values.min(), "highest": values.max()}
    return Table(found, index=values.columns)


def _other_parameters(model):
    fitted = model._fitted
    if not isinstance(fitted, FittedMixed):
        alpha = np.ravel(model.correlation_params_)
        names = ["correlation"] if alpha.size == 1 else [f"correlation{j + 1}" for j in range(alpha.size)]
        return {"dispersion": model.dispersion_} | dict(zip(names, alpha, strict=True))
    random = [parameter for parameter in model._parameters() if parameter.kind == "random" and parameter.positions]
    values = Estimates(random, fitted.fit_intercept).of(None, [factor.covariance for factor in fitted.factors])
    found = dict(zip((parameter.name for parameter in random), values, strict=True))
    return found | ({"sigma": fitted.sigma} if isinstance(fitted, FittedLinear) else {})
