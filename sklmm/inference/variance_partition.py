"""Where the variance of a mixed model is: on the latent scale, between groups and explained by features.

A binary outcome is 1 where a latent variable, the linear predictor plus an error whose distribution is the link's (of
the logit the logistic one, of variance pi^2 / 3), is above 0. Its variance has three parts: that of the fixed effects'
linear predictor over the rows, that of the random effects, averaged over the rows where slopes are random, and the
error's.

References
----------
Austin PC, Wagner P, Merlo J (2017). The median hazard ratio: a useful measure of variance and general contextual
effects in multilevel survival analysis. Statistics in Medicine 36, 928-938.

Johnson PCD (2014). Extension of Nakagawa and Schielzeth's R2GLMM to random slopes models. Methods in Ecology and
Evolution 5, 944-946.

Larsen K, Merlo J (2005). Appropriate assessment of neighborhood effects on individual health. American Journal of
Epidemiology 161, 81-88.

Nakagawa S, Johnson PCD, Schielzeth H (2017). The coefficient of determination R2 and intra-class correlation
coefficient from generalized linear mixed-effects models revisited and expanded. Journal of the Royal Society Interface
14, 20170213.
"""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sklmm.families import LOGIT
from sklmm.inference.tables import Table

R2 = namedtuple("R2", ["marginal", "conditional"])


@dataclass(frozen=True)
class VariancePartition:
    """Variances on the latent scale, and what follows from them.

    Attributes
    ----------
    fixed : float
        Variance of the fixed effects' linear predictor over the rows of the fit.
    random : Series
        Variance of each grouping factor's random effects; the mean over the rows where slopes are random.
    family : Bernoulli or Gaussian
    measured : float or None
        Residual variance of a measured outcome.
    """

    fixed: float
    random: pd.Series
    family: object = LOGIT
    measured: float | None = None

    @property
    def residual(self):
        """Variance of the error: of the latent one, pi^2 / 3 of the logit, 1 of the probit, pi^2 / 6 of cloglog; of a
        measured outcome the residual variance."""
        return self.family.latent_variance if self.measured is None else self.measured

    def to_frame(self):
        """A row a part ("fixed", each grouping factor, "residual"); columns "variance" and "share"."""
        parts = pd.concat([pd.Series({"fixed": self.fixed}), self.random, pd.Series({"residual": self.residual})])
        return Table({"variance": parts, "share": parts / parts.sum()})

    @property
    def icc(self):
        """Intraclass correlation: the random effects' share of the variance that features leave.

        For two rows of the same groups the correlation of their latent variables, given their features.
        """
        between = float(self.random.sum())
        return between / (between + self.residual)

    @property
    def icc_by_factor(self):
        """Each grouping factor's share; they add up to `icc`."""
        return self.random / (float(self.random.sum()) + self.residual)

    @property
    def median_odds_ratio(self):
        """Median odds ratio of each grouping factor.

        Of two rows with the same features in two groups drawn at random, the odds of the one more likely to be of
        class 1 relative to the other's: the median over such pairs. 1: groups do not differ. Of the logit only.
        """
        return self.median_ratio("odds ratio")

    @property
    def median_hazard_ratio(self):
        """Median hazard ratio of each grouping factor, likewise for hazards (Austin et al. 2017). Of cloglog only."""
        return self.median_ratio("hazard ratio")

    def median_ratio(self, what=None):
        """Median ratio of each grouping factor, of what the link has ratios of."""
        if self.family.ratio != what and what is not None:
            raise ValueError(
                f"there is no median {what} with link={self.family.name!r}: "
                + ("see icc" if self.family.ratio is None else f"see median_{self.family.ratio.replace(' ', '_')}")
            )
        return np.exp(np.sqrt(2.0 * self.random) * stats.norm.ppf(0.75))

    @property
    def r2(self):
        """Nakagawa's R2: explained by the fixed effects alone (marginal), and by the groups too (conditional)."""
        explained = self.fixed + float(self.random.sum())
        total = explained + self.residual
        return R2(self.fixed / total, explained / total)


def variance_partition(moments, factors, family=LOGIT, measured=None):
    """Partition the variance of a fitted model.

    Parameters
    ----------
    moments : RowMoments
    factors : dict of str -> ndarray of shape (q, q)
        Relative covariance factor of each grouping factor, in the order and the units of the moments: the mean of
        |Lambda'z|^2 is a sum of squares, where that of z'Cov z would cancel for features far from 0.
    family : Bernoulli
    measured : float or None
        Residual variance of a measured outcome, of which the covariance factors are not relative.

    Returns
    -------
    VariancePartition
    """
    random = {
        name: float(np.sum(Lambda * (second @ Lambda)))
        for (name, Lambda), second in zip(factors.items(), moments.random_moments, strict=True)
    }
    return VariancePartition(moments.fixed_variance, pd.Series(random, dtype=float), family, measured)
