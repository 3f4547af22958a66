"""Covariances of coefficients from estimating equations: the sandwich and its small-sample corrections.

Cluster i has the derivatives D_i of its means, the covariance V_i = phi S_i R_i S_i and the score
U_i = D_i'V_i^-1 (y_i - mu_i). The sandwich is B (sum U_i U_i') B, around the bread B = (sum D_i'V_i^-1 D_i)^-1. Where
clusters are few, residuals are too small, since the fit has followed them; the corrections undo that by the leverages
H_i = D_i B D_i'V_i^-1, and differ in how.

Bread and meats come in here free of phi, computed with S_i R_i S_i for V_i.

References
----------
Liang K-Y, Zeger SL (1986). Longitudinal data analysis using generalized linear models. Biometrika 73, 13-22.

Kauermann G, Carroll RJ (2001). A note on the efficiency of sandwich covariance matrix estimation. Journal of the
American Statistical Association 96, 1387-1396.

Mancl LA, DeRouen TA (2001). A covariance estimator for GEE with improved small-sample properties. Biometrics 57,
126-134.

Fay MP, Graubard BI (2001). Small-sample adjustments for Wald-type tests using sandwich estimators. Biometrics 57,
1198-1206.

Morel JG, Bokossa MC, Neerchal NK (2003). Small sample correction for the variance of GEE estimators. Biometrical
Journal 45, 395-409.
"""

from dataclasses import dataclass

import numpy as np

COV_TYPES = ("robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel")


@dataclass(frozen=True)
class Meats:
    """Sums over clusters of the outer products of their scores, each score corrected or not; ndarrays of shape (n, n).

    Attributes
    ----------
    robust : of the scores U_i as they are.
    kauermann_carroll : of D_i'V_i^-1 (I - H_i)^(-1/2) (y_i - mu_i); NaN where that does not exist.
    mancl_derouen : of D_i'V_i^-1 (I - H_i)^-1 (y_i - mu_i); NaN where that does not exist.
    fay_graubard : of diag(1 - min(0.75, [D_i'V_i^-1 D_i B]_jj))^(-1/2) U_i.
    """

    robust: np.ndarray
    kauermann_carroll: np.ndarray
    mancl_derouen: np.ndarray
    fay_graubard: np.ndarray


FEW_CLUSTERS = 50  # below this many, tests and intervals use t


def residual_df(n_clusters, n_coefficients):
    """Degrees of freedom of tests: with few clusters their number less that of coefficients, else None."""
    return n_clusters - n_coefficients if n_clusters < FEW_CLUSTERS else None


def sandwich_of(fit, n_obs):
    """What `covariance` makes covariances of any kind from, of a `GEEFit` to rows that count as `n_obs`."""
    return {
        "bread": fit.bread,
        "dispersion": fit.dispersion,
        "meats": Meats(*fit.meats),
        "n_obs": n_obs,
        "n_clusters": fit.n_clusters,
        "n_coefficients": fit.bread.shape[0],
    }


def covariance_of_coefficients(cov_type, sandwich, coordinates, aliased):
    """Covariance in the user's coordinates, from that of the equations' own; NaN for aliased coefficients.

    Parameters
    ----------
    cov_type : str
    sandwich : dict
        Arguments of `covariance`.
    coordinates : ndarray of shape (n_fixed, n)
    aliased : list of int
        Positions of coefficients.
    """
    vcov = coordinates @ covariance(cov_type, **sandwich) @ coordinates.T
    vcov[aliased, :] = vcov[:, aliased] = np.nan
    return vcov


def check_cov_type(cov_type):
    """A ValueError that lists the kinds of covariance there are, unless `cov_type` is one of them."""
    if not isinstance(cov_type, str) or cov_type not in COV_TYPES:
        raise ValueError(f"cov_type must be one of {', '.join(map(repr, COV_TYPES))}; got {cov_type!r}")


def covariance(cov_type, bread, dispersion, meats, n_obs, n_clusters, n_coefficients):
    """Covariance of the coefficients.

    Parameters
    ----------
    cov_type : {"robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"}
        "naive" holds if the working correlation is right, "robust" for many clusters whether it is or not; the
        others are the robust one corrected for few clusters.
    bread : ndarray of shape (n, n)
        Inverse of sum D_i'(S_i R_i S_i)^-1 D_i, free of the dispersion; NaN in the rows and columns of coefficients
        that are not identified.
    dispersion : float
        phi.
    meats : Meats
        Free of the dispersion.
    n_obs : float
        Number of rows, or the sum of their weights.
    n_clusters : int
    n_coefficients : int
        Number of identified coefficients.

    Returns
    -------
    ndarray of shape (n, n)
        NaN in the rows and columns of coefficients that are not identified.

    Raises
    ------
    ValueError
        If there is no such kind of covariance, or the correction is undefined for these data.
    """
    check_cov_type(cov_type)
    bread = np.asarray(bread, dtype=float)
    identified = ~np.isnan(np.diagonal(bread))
    kept = np.ix_(identified, identified)
    inner = bread[kept]
    if cov_type == "naive":
        vcov = dispersion * inner
    else:
        meat = np.asarray(getattr(meats, _meat_of(cov_type)), dtype=float)[kept]
        if cov_type in ("kauermann-carroll", "mancl-derouen") and not np.isfinite(meat).all():
            raise ValueError(
                f"cov_type={cov_type!r} is undefined for this fit: a cluster has a leverage of 1 (a coefficient "
                "follows its rows wherever they go, as that of an indicator of one cluster does), so that nothing is "
                "left of its residuals to correct; use cov_type='fay-graubard', which bounds leverages, or 'robust'"
            )
        half = inner @ _root(meat)  # so that rounding makes no variance negative
        vcov = half @ half.T
        if cov_type == "morel":
            vcov = _morel(vcov, inner, meat, dispersion, n_obs, n_clusters, n_coefficients)
    out = np.full(bread.shape, np.nan)
    out[kept] = (vcov + vcov.T) / 2
    return out


def _root(meat):
    """A matrix L with L L' = meat, which is positive semi-definite."""
    scale = np.sqrt(np.diagonal(meat))
    scale = np.where(scale > 0, scale, 1.0)[:, None]
    values, vectors = np.linalg.eigh(meat / (scale * scale.T))
    return scale * vectors * np.sqrt(np.maximum(values, 0.0))


def _meat_of(cov_type):
    return "robust" if cov_type == "morel" else cov_type.replace("-", "_")


def _morel(robust, bread, meat, dispersion, n_obs, n_clusters, n_coefficients):
    """The robust covariance inflated for the degrees of freedom spent, plus a share of the naive one."""
    if n_clusters < 2 or n_obs <= n_coefficients:
        shortage = (
            f"there is {n_clusters} cluster only"
            if n_clusters < 2
            else f"{n_obs:g} rows leave nothing for {n_coefficients} coefficients"
        )
        raise ValueError(
            f"cov_type='morel' is undefined for this fit: {shortage}, and it divides by the number of clusters less 1 "
            "and the number of rows less that of coefficients; use cov_type='naive'"
        )
    inflation = (n_obs - 1) / (n_obs - n_coefficients) * n_clusters / (n_clusters - 1)
    spare = n_clusters - n_coefficients
    share = min(0.5, n_coefficients / spare) if spare > 0 else 0.5
    if dispersion == 0:  # no residuals: nothing to inflate
        return inflation * robust
    design_effect = max(1.0, inflation * np.trace(bread @ meat) / (dispersion * n_coefficients))
    return inflation * robust + share * design_effect * dispersion * bread
