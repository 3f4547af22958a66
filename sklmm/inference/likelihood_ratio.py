"""Likelihood ratio tests of nested mixed models, variances on the boundary included.

A variance that is 0 under the hypothesis is on the edge of what it can be, so that twice the gain in log-likelihood is
not chi-squared: it is a mixture of chi-squared distributions, chi-bar-square (Self and Liang 1987). For one variance
added to r ordinary parameters, covariances with the new coefficient among them, half of it is chi-squared with r and
half with r + 1 degrees of freedom (Stram and Lee 1994). For several variances the weights depend on how their estimates
are correlated, and are simulated.

References
----------
Self SG, Liang K-Y (1987). Asymptotic properties of maximum likelihood estimators and likelihood ratio tests under
nonstandard conditions. Journal of the American Statistical Association 82, 605-610.

Silvapulle MJ, Sen PK (2005). Constrained Statistical Inference. Wiley, sections 3.4 and 3.5.

Stram DO, Lee JW (1994). Variance components testing in the longitudinal mixed effects model. Biometrics 50, 1171-1177.
"""

import re
from collections import namedtuple

import numpy as np
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklmm.design.covariance import RelativeCovariance
from sklmm.exceptions import ConvergenceWarning, NestingWarning
from sklmm.fitted import FittedLinear, FittedMarginal, fitted_of
from sklmm.inference.same_rows import check_rows
from sklmm.inference.tables import Table
from sklmm.messages import listed, warn

# Of twice the log-likelihood: so much lower may the larger model's be by rounding.
_ROUNDING = 1e-6
_PROJECTION_STEPS = 500


class LikelihoodRatioTest(namedtuple("LikelihoodRatioTest", ["statistic", "df", "p_value"])):
    """Result of a likelihood ratio test; unpacks into `statistic`, `df` and `p_value`.

    Attributes
    ----------
    statistic : float
        Twice the difference of the log-likelihoods.
    df : int
        Parameters that the larger model has more.
    p_value : float
        From the distribution that holds, see `distribution`.
    p_value_chi2 : float
        From chi-squared with `df` degrees of freedom, as lme4's ``anova`` prints it; too large where a variance is
        tested.
    distribution : str
        The statistic's distribution under the hypothesis, in words.
    """

    def __new__(cls, statistic, df, p_value, p_value_chi2, distribution):
        self = super().__new__(cls, statistic, df, p_value)
        self.p_value_chi2, self.distribution = p_value_chi2, distribution
        return self

    def __getnewargs__(self):
        return (*self, self.p_value_chi2, self.distribution)

    def __repr__(self):
        return (
            f"LikelihoodRatioTest(statistic={self.statistic!r}, df={self.df!r}, p_value={self.p_value!r}, "
            f"distribution={self.distribution!r})"
        )

    def __str__(self):
        return (
            f"Likelihood ratio test: statistic {self.statistic:.4g}, df {self.df}, p = {self.p_value:.3g} "
            f"({self.distribution})"
        )

    def _repr_html_(self):
        return self.to_frame()._repr_html_()

    def to_frame(self):
        """The test as a row of a data frame: "statistic", "df", "p_value", "p_value_chi2" and "distribution"."""
        columns = {**self._asdict(), "p_value_chi2": self.p_value_chi2, "distribution": self.distribution}
        return Table([columns], index=["larger against smaller"])


def likelihood_ratio_test(smaller, larger, *, nested=None, n_simulations=10_000, random_state=0):
    """Test a mixed model against a larger one that contains it, both fitted to the same rows.

    Parameters
    ----------
    smaller, larger : MixedLogisticRegression
        Fitted. Without groups, plain logistic regression, the smaller one is nested in any mixed model.
    nested : bool or None, default=None
        Whether the smaller model's fixed effects are contained in the larger one's where their names do not show it:
        columns with other names may be linear combinations of the larger model's. None takes that for granted, with a
        `NestingWarning`; True without one; False is an error. Random effects must be contained by name.
    n_simulations : int, default=10_000
        Draws for the weights of a chi-bar-square distribution that has no closed form.
    random_state : int, Generator or None, default=0
        For these draws.

    Returns
    -------
    test : LikelihoodRatioTest

    Raises
    ------
    ValueError
        If the models are not nested or not of the same rows, as far as can be seen: the number of rows, the classes and
        their counts, the values of columns and groups that both have, the quadrature; if they differ in their link; or
        if the larger model's likelihood is the lower one; if one was fitted with priors.

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, likelihood_ratio_test
    >>> from sklmm.datasets import load_contraception
    >>> data = load_contraception(as_frame=True)
    >>> X, y, district = data.data[["age"]], data.target, data.groups
    >>> intercepts = MixedLogisticRegression("1 | district").fit(X, y, groups=district)
    >>> slopes = MixedLogisticRegression("1 + age | district").fit(X, y, groups=district)
    >>> test = likelihood_ratio_test(intercepts, slopes)
    >>> test.distribution
    'chi-bar-square: 0.5 chi-squared(1) + 0.5 chi-squared(2)'
    """
    _check_models(smaller, larger)
    _check_same_rows(smaller, larger, nested)
    _check_restricted(smaller, larger)
    for name, model in (("smaller", smaller), ("larger", larger)):
        if not model.converged_:
            warn(
                f"{name} did not converge, so that the test means little: {model.fit_report_.verdict}",
                ConvergenceWarning,
            )
    n_fixed = _added_fixed_effects(smaller, larger, nested)
    free, cones = _added_random_effects(smaller, larger)
    r = n_fixed + len(free)
    df = r + sum(len(cone.entries) for cone in cones)
    if df == 0:
        raise ValueError("the models have the same parameters: there is nothing to test")
    statistic = 2.0 * (larger.log_likelihood_ - smaller.log_likelihood_)
    if statistic < -_ROUNDING * (1.0 + abs(larger.log_likelihood_)):
        raise ValueError(
            f"the larger model has a log-likelihood of {larger.log_likelihood_:.6f}, which is below the smaller one's, "
            f"{smaller.log_likelihood_:.6f}: they are not nested, not of the same rows, or one did not converge"
        )
    statistic = max(statistic, 0.0)
    p_value, distribution = _tail(statistic, r, cones, larger, n_simulations, random_state)
    return LikelihoodRatioTest(statistic, df, p_value, float(stats.chi2.sf(statistic, df)), distribution)


# --- are they nested? ---------------------------------------------------------------------------------------


def _check_models(smaller, larger):
    for name, model in (("smaller", smaller), ("larger", larger)):
        if isinstance(fitted_of(model), FittedMarginal):
            raise TypeError(
                f"{name} is a marginal model: estimating equations have no likelihood. Compare marginal models by "
                "wald_test, or by QICu with compare_models"
            )
        if fitted_of(model) is None:
            try:
                check_is_fitted(model)
            except NotFittedError:
                raise NotFittedError(f"{name} is not fitted: call its fit method before testing it") from None
            except TypeError:
                pass
            raise TypeError(f"{name} must be a fitted MixedLogisticRegression, got a {type(model).__name__}")
        if fitted_of(model).priors is not None:
            raise ValueError(
                f"{name} was fitted with priors or penalties (priors={model.priors!r}): its log-likelihood is not the "
                "highest, and twice a difference of such has no chi-squared distribution. Fit both with priors=None"
            )


def _check_same_rows(smaller, larger, nested):
    facts = [
        ("number of rows", [f"{model.n_obs_:.10g}" for model in (smaller, larger)]),
        ("classes", [model._outcome_facts()["classes"] for model in (smaller, larger)]),
    ]
    if facts[-1][1][0] == facts[-1][1][1]:
        of_both = zip(*(model._outcome_facts().items() for model in (smaller, larger)), strict=True)
        facts += [(what, [one, other]) for (what, one), (_, other) in of_both]
    nodes = [model.n_quadrature_ for model in (smaller, larger)]
    if smaller._fitted.factors and nodes[0] != nodes[1]:  # without random effects there is nothing to integrate
        raise ValueError(
            f"likelihoods of {nodes[0]} and {nodes[1]} quadrature nodes differ by the error of the approximation, too: "
            f"fit both models with n_quadrature={max(nodes)}"
        )
    counts = [model._fitted.n_groups for model in (smaller, larger)]
    both = [name for name in counts[0] if name in counts[1]]
    facts += [(f"number of groups of {name}", [str(n[name]) for n in counts]) for name in both]
    for what, (one, other) in facts:
        if one != other:
            raise ValueError(
                "only models of the same rows and the same kind can be tested: smaller and larger differ in their "
                f"{what}, {one} and {other}"
            )
    changed = check_rows(smaller, larger, "smaller", "larger")
    if changed and not nested:
        problem = f"smaller and larger were fitted to the same rows, but {listed(map(repr, changed))} held other values"
        if nested is not None:
            raise ValueError(f"{problem}: the models are not nested")
        warn(
            f"{problem}. The test is right only if the smaller model's columns are linear combinations of the larger "
            "one's: pass nested=True if you know that they are",
            NestingWarning,
        )


def _check_restricted(smaller, larger):
    """Restricted likelihoods of different fixed effects are of different data."""
    restricted = any(isinstance(model._fitted, FittedLinear) and model._fitted.reml for model in (smaller, larger))
    if restricted and sorted(_identified(smaller)) != sorted(_identified(larger)):
        raise ValueError(
            "restricted likelihoods (REML) of models that differ in their fixed effects cannot be compared: fit both "
            'with method="ml"'
        )


def _identified(model):
    """Names of the coefficients that were estimated."""
    names, _, vcov = model._fixed_effects()
    return [_in_order(str(name)) for name, out in zip(names, np.isnan(np.diagonal(vcov)), strict=True) if not out]


def _in_order(name):
    """An interaction's name that does not depend on the order of its parts: "b:a" is "a:b"."""
    return ":".join(sorted(re.split(r":(?![^\[(]*[\])])", name)))


def _added_fixed_effects(smaller, larger, nested):
    """How many fixed effects the larger model has more."""
    one, other = _identified(smaller), _identified(larger)
    alone = [name for name in one if name not in other]
    if alone and not nested:
        problem = f"the smaller model has fixed effects that the larger one has not: {', '.join(map(repr, alone))}"
        if nested is not None or len(one) >= len(other):
            raise ValueError(f"{problem}. The models are not nested; compare_models compares them by AIC and BIC")
        warn(
            f"{problem}. The test is right only if they are linear combinations of the larger model's columns: pass "
            "nested=True if you know that they are",
            NestingWarning,
        )
    if len(one) > len(other):
        raise ValueError(
            f"the smaller model has more fixed effects ({len(one)}) than the larger one ({len(other)}); is it the "
            "other way round?"
        )
    return len(other) - len(one)


class _Cone:
    """New random coefficients whose covariance matrix, 0 under the hypothesis, must stay positive semi-definite.

    Attributes
    ----------
    size : int
    entries : list of (factor, row, column)
        Of the covariance matrices: the lower triangle of the new coefficients, row by row.
    """

    def __init__(self, factor, coefficients):
        self.size = len(coefficients)
        self.entries = [(factor, a, b) for i, a in enumerate(coefficients) for b in coefficients[: i + 1]]


def _coefficient_terms(model):
    """For each factor and coefficient name its position and its term's; coefficients in several terms are refused."""
    table = {}
    for f, factor in enumerate(model._fitted.factors):
        own, position = {}, 0
        for t, ((_, names), (_, correlated)) in enumerate(zip(factor.terms, factor.blocks, strict=True)):
            for name in names:
                if name in own:
                    raise ValueError(
                        f"{name!r} is in several random-effects terms of {factor.name}: such models cannot be tested"
                    )
                own[name] = (position, t, correlated)
                position += 1
        table[factor.name] = (f, own)
    return table


def _added_random_effects(smaller, larger):
    """Covariance parameters that the larger model has more: those free of bounds, and those in cones."""
    one, other = _coefficient_terms(smaller), _coefficient_terms(larger)
    free, cones = [], []
    for factor, (_, own) in one.items():
        missing = [name for name in own if factor not in other or name not in other[factor][1]]
        if missing:
            raise ValueError(
                "the smaller model has random coefficients that the larger one has not: "
                f"{', '.join(missing)} of {factor}"
            )
    for factor, (f, own) in other.items():
        _, known = one.get(factor, (None, {}))
        blocks = {}
        for name, (position, term, correlated) in own.items():
            blocks.setdefault(term if correlated else (term, name), []).append((name, position))
        for block in blocks.values():
            new = [position for name, position in block if name not in known]
            old = [(name, position) for name, position in block if name in known]
            free += [(f, max(a, b), min(a, b)) for a in new for _, b in old]
            for i, (name, a) in enumerate(old):
                for earlier, b in old[:i]:
                    if not _share_term(known, name, earlier):
                        free.append((f, max(a, b), min(a, b)))
            if new:
                cones.append(_Cone(f, sorted(new)))
        for i, name in enumerate(known):
            for earlier in list(known)[:i]:
                if _share_term(known, name, earlier) and not _share_term(own, name, earlier):
                    raise ValueError(
                        "the smaller model has a correlation that the larger one has not: "
                        f"of {earlier} and {name}, {factor}"
                    )
    return free, cones


def _share_term(own, name, other):
    """Whether two coefficients are correlated."""
    (_, term, correlated), (_, its, _) = own[name], own[other]
    return term == its and correlated


# --- the distribution under the hypothesis ------------------------------------------------------------------


def _tail(statistic, r, cones, larger, n_simulations, random_state):
    """P-value, and the distribution in words."""
    if not cones:
        return float(stats.chi2.sf(statistic, r)), f"chi-squared({r})"
    if len(cones) == 1 and cones[0].size == 1:
        return 0.5 * (_chi2_sf(statistic, r) + _chi2_sf(statistic, r + 1)), _mixture(r)
    entries = [entry for cone in cones for entry in cone.entries]
    k = len(entries)
    spread = _covariance_of_entries(larger, entries)
    if spread is None:
        # Whatever the weights are, no chi-bar-square has a heavier tail (Silvapulle and Sen 2005, section 3.4).
        return 0.5 * (_chi2_sf(statistic, r + k - 1) + _chi2_sf(statistic, r + k)), (
            f"at most {_mixture(r + k - 1)}: the larger fit is singular, so that the weights are not known, and the "
            "p-value is an upper bound"
        )
    p_value = _simulated_tail(statistic, r, cones, spread, n_simulations, np.random.default_rng(random_state))
    return p_value, f"chi-bar-square of {r} to {r + k} degrees of freedom, simulated ({n_simulations:,} draws)"


def _mixture(r):
    lower = f"0.5 chi-squared({r})" if r else "0.5 at 0"
    return f"chi-bar-square: {lower} + 0.5 chi-squared({r + 1})"


def _chi2_sf(statistic, df):
    return float(stats.chi2.sf(statistic, df)) if df else float(statistic <= 0)


def _covariance_of_entries(model, entries):
    """Covariance matrix of estimated entries of the covariance matrices; None where the fit is on a boundary."""
    if model.is_singular_:
        return None
    n_fixed = model._fixed_effects()[2].shape[0]
    structures = [RelativeCovariance(factor.blocks) for factor in model._fitted.factors]
    first = n_fixed + np.concatenate([[0], np.cumsum([structure.m for structure in structures])])
    jacobian = np.zeros((len(entries), model._fitted.vcov.shape[0]))
    for i, (f, a, b) in enumerate(entries):
        structure, L = structures[f], structures[f].lambda_(model._fitted.theta[f])
        for entry in range(structure.m):
            row, col = structure.row[entry], structure.col[entry]
            jacobian[i, first[f] + entry] = (row == a) * L[b, col] + (row == b) * L[a, col]
    theta = slice(n_fixed, None)
    spread = jacobian[:, theta] @ model._fitted.vcov[theta, theta] @ jacobian[:, theta].T
    if not np.isfinite(spread).all():
        return None
    scale = np.sqrt(np.diagonal(spread))
    smallest = np.linalg.eigvalsh(spread / scale[:, None] / scale)[0] if (scale > 0).all() else 0.0
    return spread if smallest > 1e-10 else None


def _simulated_tail(statistic, r, cones, spread, n_simulations, rng):
    """P(chi-bar-square >= statistic), its directions simulated and its length integrated.

    The statistic is the squared length of a normal vector's projection on the cone, in the metric of `spread`. The
    projection is homogeneous, so its squared length is c^2 times the vector's own, chi-squared with all degrees of
    freedom and independent of the share c^2, which depends on the direction only: every draw gives a whole tail.
    """
    if statistic <= 0:
        return 1.0
    k = spread.shape[0]
    z = rng.multivariate_normal(np.zeros(k), spread, size=n_simulations, method="cholesky")
    free = rng.chisquare(r, n_simulations) if r else np.zeros(n_simulations)
    precision = np.linalg.inv(spread)
    length = np.einsum("ij,jk,ik->i", z, precision, z)
    near = _project(z, precision, cones)
    # The projection on a cone is orthogonal to what is left: |z|^2 = |Pz|^2 + |z - Pz|^2.
    inside = np.clip(np.einsum("ij,jk,ik->i", near, precision, z), 0.0, length)
    share = (free + inside) / (free + length)
    reached = share > 1e-12
    return float(stats.chi2.sf(statistic / share[reached], r + k).sum() / n_simulations)


def _project(z, precision, cones):
    """The points of the cone nearest to rows of z in the metric of `precision`: accelerated projected gradients."""
    scale = _congruent(1.0 / np.sqrt(np.diagonal(precision)), cones)
    metric = precision * scale[:, None] * scale
    target = z / scale
    step = 1.0 / np.linalg.eigvalsh(metric)[-1]
    here = ahead = _into_cone(target, cones)
    weight = 1.0
    for _ in range(_PROJECTION_STEPS):
        new = _into_cone(ahead - step * (ahead - target) @ metric, cones)
        moved = np.abs(new - here).max()
        later = (1 + np.sqrt(1 + 4 * weight**2)) / 2
        # Momentum is dropped where it points uphill (O'Donoghue and Candes 2015).
        uphill = np.einsum("ij,ij->i", ahead - new, new - here) > 0
        ahead = new + np.where(uphill, 0.0, (weight - 1) / later)[:, None] * (new - here)
        here, weight = new, later
        if moved < 1e-9 * np.abs(target).max():
            break
    return here * scale


def _congruent(scale, cones):
    """Scales of the entries under which the cone stays one of positive semi-definite matrices.

    s_a s_b for the entry (a, b); off the diagonal less by sqrt(2), so that the entries' sum of squares is that of the
    whole symmetric matrix.
    """
    out, at = np.empty_like(scale), 0
    for cone in cones:
        root = {a: np.sqrt(scale[at + i]) for i, (_, a, b) in enumerate(cone.entries) if a == b}
        for i, (_, a, b) in enumerate(cone.entries):
            out[at + i] = root[a] * root[b] * (1.0 if a == b else np.sqrt(0.5))
        at += len(cone.entries)
    return out


def _into_cone(entries, cones):
    """The nearest points of the cone to rows of entries that are scaled as `_congruent` does."""
    out, at = np.maximum(entries, 0.0), 0
    for cone in cones:
        m = len(cone.entries)
        if cone.size > 1:
            row, col = np.tril_indices(cone.size)
            share = np.where(row == col, 1.0, np.sqrt(0.5))
            A = np.zeros((len(entries), cone.size, cone.size))
            A[:, row, col] = A[:, col, row] = entries[:, at : at + m] * share
            w, V = np.linalg.eigh(A)
            A = (V * np.maximum(w, 0.0)[:, None, :]) @ np.swapaxes(V, 1, 2)
            out[:, at : at + m] = A[:, row, col] / share
        at += m
    return out
