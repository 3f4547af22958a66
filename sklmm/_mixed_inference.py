"""Inference of the mixed model beyond Wald's: the methods that `MixedLogisticRegression` gets from here."""

from .inference.variance_partition import variance_partition


class MixedInference:
    """Mixin: from the fitted attributes, and from the data only where a method refits."""

    @property
    def variance_partition_(self):
        """Variances on the latent scale: of the fixed effects, of each factor's random effects, of the error."""
        factors = self._fitted("_factors")
        return variance_partition(self._row_moments, {factor.name: factor.covariance for factor in factors})

    @property
    def icc_(self):
        """Intraclass correlation on the latent scale, of all factors together."""
        return self.variance_partition_.icc

    @property
    def median_odds_ratio_(self):
        """Median odds ratio of each factor."""
        return self.variance_partition_.median_odds_ratio

    @property
    def r2_(self):
        """Nakagawa's R2, marginal and conditional."""
        return self.variance_partition_.r2
