"""pool: Rubin's rules written out, coverage of intervals, and what fits must have in common."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    pool,
)
from sklmm.datasets import make_clustered_classification, make_clustered_regression

CLASSES = [MixedLogisticRegression, GEELogisticRegression, MixedLinearRegression, GEELinearRegression]


def completed(estimator, m=5, seed=0, n=300, n_groups=20):
    """Tables in which a fifth of a feature is drawn anew."""
    make = make_clustered_regression if "Linear" in estimator.__name__ else make_clustered_classification
    X, y, groups = make(n, 2, n_groups=n_groups, random_state=seed)
    random = np.random.default_rng(seed)
    for _ in range(m):
        other = X.copy()
        other[::5, 0] += random.normal(size=len(other[::5]))
        yield other, y, groups


def fits_of(estimator, m=5, **parameters):
    return [estimator(**parameters).fit(X, y, groups=groups) for X, y, groups in completed(estimator, m)]


def rubin(estimates, variances, df_complete):
    """Rubin (1987, section 3.1) with Barnard and Rubin's degrees of freedom, of one number."""
    m = len(estimates)
    q, u = sum(estimates) / m, sum(variances) / m
    b = sum((e - q) ** 2 for e in estimates) / (m - 1)
    t = u + b + b / m
    r, share = (b + b / m) / u, (b + b / m) / t
    nu = (m - 1) * (1 + 1 / r) ** 2  # equation 3.1.6, which is (m - 1) / lambda^2
    fraction = (r + 2 / (nu + 3)) / (r + 1)
    if df_complete is None:
        df = nu
    else:
        observed = (1 - share) * df_complete * (df_complete + 1) / (df_complete + 3)
        df = nu * observed / (nu + observed)
    p = 2 * stats.t.sf(abs(q) / t**0.5, df)
    reach = stats.t.ppf(0.95, df) * t**0.5
    return q, t**0.5, df, p, q - reach, q + reach, r, fraction


@pytest.mark.parametrize("estimator", CLASSES, ids=lambda c: c.__name__)
def test_rules_written_out(estimator):
    fits = fits_of(estimator)
    pooled = pool(fits)
    table = pooled.summary(0.9)
    for j, name in enumerate(pooled.names):
        df = fits[0]._inference_df()
        if hasattr(df, "each"):
            df = np.mean([model._inference_df().each(np.eye(3))[j] for model in fits])
        variances = [model.vcov_.iloc[j, j] for model in fits]
        estimates = [np.append(model.intercept_, model.coef_)[j] for model in fits]
        expected = rubin(estimates, variances, df)
        columns = ["estimate", "std_error", "df", "p_value", "lower", "upper"]
        columns += ["relative_increase", "missing_information"]
        np.testing.assert_allclose(table.loc[name, columns].astype(float), expected, rtol=1e-9)
    np.testing.assert_allclose(pooled.conf_int(0.9), table[["lower", "upper"]])
    np.testing.assert_allclose(np.sqrt(np.diagonal(pooled.vcov)), table["std_error"])
    pd.testing.assert_frame_equal(pooled.to_frame(), pd.DataFrame(pooled.summary()))


def test_degrees_of_freedom_of_few_rows_are_no_more_than_the_complete_table_has():
    fits = fits_of(MixedLinearRegression, df="residual")
    assert (pool(fits).summary()["df"] < 297).all()
    normal = fits_of(MixedLinearRegression, df=None)
    assert pool(normal).summary()["df"].max() > 297


@pytest.mark.parametrize(("estimator", "names"), [
    (MixedLogisticRegression, ["sd_intercept|group"]),
    (MixedLinearRegression, ["sd_intercept|group", "sigma"]),
    (GEELinearRegression, ["dispersion", "correlation"]),
])  # fmt: skip
def test_variances_are_means(estimator, names):
    fits = fits_of(estimator, 3)
    random = pool(fits).random
    assert random.index.tolist() == names
    if names[0].startswith("sd"):
        sds = [np.sqrt(model.covariance_["group"].iloc[0, 0]) for model in fits]
    else:
        sds = [model.dispersion_ for model in fits]
    np.testing.assert_allclose(random.iloc[0], [np.mean(sds), np.std(sds, ddof=1), min(sds), max(sds)], rtol=1e-12)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_slopes_correlations_and_ratios():
    fits = fits_of(MixedLogisticRegression, 2, random_effects="1 + x1 | group")
    pooled = pool(fits)
    assert pooled.random.index.tolist() == ["sd_intercept|group", "sd_x1|group", "cor_x1.intercept|group"]
    table = pooled.summary()
    np.testing.assert_allclose(table["odds_ratio"], np.exp(table["estimate"]))
    assert "hazard_ratio" in pool(fits_of(GEELogisticRegression, 2, link="cloglog")).summary()
    assert "odds_ratio" not in pool(fits_of(GEELogisticRegression, 2, link="probit")).summary()


@pytest.mark.many_fits
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")
def test_coverage_of_intervals():
    """A third of a feature is missing at random, and drawn from its distribution given the outcome, parameters and all:
    intervals of its slope cover it in about 95 % of tables."""
    random, covered, n, m = np.random.default_rng(0), [], 80, 5
    for _ in range(200):
        x = random.normal(size=n)
        y = 1 + 0.5 * x + random.normal(size=n)
        lost = random.uniform(size=n) < 1 / 3
        A = np.column_stack([np.ones(n), y])[~lost]
        inverse = np.linalg.inv(A.T @ A)
        b = inverse @ A.T @ x[~lost]
        rss, fits = np.sum((x[~lost] - A @ b) ** 2), []
        for _ in range(m):
            s2 = rss / random.chisquare(len(A) - 2)
            beta = random.multivariate_normal(b, s2 * inverse)
            drawn = beta[0] + beta[1] * y + np.sqrt(s2) * random.normal(size=n)
            fits.append(_least_squares(np.where(lost, drawn, x), y))
        lower, upper = pool(fits).conf_int().loc["x0"]
        covered.append(lower < 0.5 < upper)
    assert 0.95 - 3.3 * np.sqrt(0.05 * 0.95 / 200) < np.mean(covered) < 0.95 + 3.3 * np.sqrt(0.05 * 0.95 / 200)


def _least_squares(x, y):
    return MixedLinearRegression(df="residual").fit(x[:, None], y)


def test_fits_that_have_nothing_in_common():
    a, b = fits_of(MixedLogisticRegression, 2)
    X, y, groups = next(completed(MixedLogisticRegression))
    for other, message in [
        (MixedLogisticRegression(link="probit").fit(X, y, groups=groups), "differ in their link, logit and probit"),
        (MixedLogisticRegression().fit(X[:, :1], y, groups=groups), "differ in their coefficients"),
        (MixedLogisticRegression().fit(X[:-1], y[:-1], groups=groups[:-1]), "differ in their number of rows"),
        (MixedLogisticRegression().fit(X, y, groups=groups % 7), "differ in their groups"),
        (MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups), "differ in their parameters"),
        (GEELogisticRegression().fit(X, y, groups=groups), "differ in their class"),
        (a, "there twice"),
    ]:
        with pytest.raises(ValueError, match=message):
            pool([a, b, other])
    with pytest.raises(ValueError, match="two fits or more, got 1"):
        pool([a])
    with pytest.raises(TypeError, match="several fits in a list"):
        pool(a)
    with pytest.raises(TypeError, match=r"fits\[1\] is a int"):
        pool([a, 3])
    with pytest.raises(ValueError, match="not fitted"):
        pool([a, MixedLogisticRegression()])


@pytest.mark.filterwarnings("ignore")
def test_fits_that_are_in_trouble():
    X, y, groups = next(completed(MixedLogisticRegression))
    stopped = MixedLogisticRegression(max_iter=1).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match=r"fits\[1\] did not converge"):
        pool([MixedLogisticRegression().fit(X, y, groups=groups), stopped])

    aliased = [np.column_stack([X, X[:, 0]]) for X, _, _ in completed(MixedLogisticRegression, 2)]
    models = [MixedLogisticRegression().fit(table, y, groups=groups) for table in aliased]
    pooled = pool(models)
    assert np.isnan(pooled.summary().loc["x2", ["estimate", "std_error", "df"]].astype(float)).all()
    assert np.isfinite(pooled.summary().loc["x1"]).all()
    assert "Not identified, and not pooled: 'x2'" in repr(pooled)
    other = aliased[0].copy()
    other[0, 2] += 1
    with pytest.raises(ValueError, match="do not estimate the same coefficients: 'x2'"):
        pool([models[0], MixedLogisticRegression().fit(other, y, groups=groups)])

    separated = np.column_stack([X, y * (np.arange(len(y)) % 2)])
    models = [MixedLogisticRegression().fit(separated + [e, 0, 0], y, groups=groups) for e in (0.0, 0.1)]
    pooled = pool(models)
    assert np.isnan(pooled.summary().loc["x2", "estimate"])
    assert "separated" in repr(pooled)


def test_fits_that_agree_are_what_each_is():
    """No spread between tables: the table is that of one fit, but for Barnard and Rubin's share of what is observed."""
    X, y, groups = next(completed(GEELogisticRegression))
    fits = [GEELogisticRegression(cov_type="naive").fit(X, y, groups=groups) for _ in range(2)]
    pooled = pool(fits)
    np.testing.assert_allclose(pooled.summary()["std_error"], np.sqrt(np.diagonal(fits[0].vcov_)))
    assert (pooled.summary()[["relative_increase", "missing_information"]] == 0).all().all()
    assert "were they of different tables?" in repr(pooled)
    df = fits[0].df_resid_
    np.testing.assert_allclose(pooled.summary()["df"], df * (df + 1) / (df + 3))


def test_it_prints_whole():
    pooled = pool(fits_of(MixedLogisticRegression, 2))
    text, html = repr(pooled), pooled._repr_html_()
    assert "2 fits pooled" in text
    for name in [*pooled.summary(), "sd_intercept|group", "highest"]:
        assert name in text
        assert name in html
