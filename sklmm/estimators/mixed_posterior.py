"""The posterior of a mixed model: the method that estimators get from here."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from sklmm.design.grouping import lookup_codes
from sklmm.estimators.rows_of_fit import SAME_ROWS
from sklmm.exceptions import RecurringGroupsWarning
from sklmm.inference.prior_choice import Layout, Spread, check_priors, model_priors
from sklmm.inference.priors import ModelPriors
from sklmm.likelihood.engine import make_engine
from sklmm.messages import listed, warn
from sklmm.passes.threads import effective_threads
from sklmm.posterior.coordinates import Coordinates
from sklmm.posterior.importance import sample
from sklmm.posterior.joint_prior import JointPrior
from sklmm.posterior.result import Posterior
from sklmm.posterior.target import LogPosterior, PriorsOfDraws

FEWEST_POINTS = 64


class MixedPosterior:
    """Mixin: the posterior of the parameters under the model's own marginal likelihood."""

    def posterior(self, X, y=None, groups=None, *, sample_weight=None, offset=None, precision_weight=None, priors=None,
                  n_draws=1024, random_state=None):  # fmt: skip
        """Draws from the posterior of the parameters, by importance sampling: no chains.

        The likelihood is the marginal one of the fit, by Laplace's approximation or quadrature with its nodes (of a
        linear model that of maximum likelihood), evaluated at about `n_draws` quasi-random points around the mode.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            The rows of the fit, as to `fit`. A model with a formula finds all in the data frame X.
        precision_weight : array-like of shape (n_samples,), default=None
            Of a linear model whose fit had them.
        priors : None, "weak", dict or JointPrior, default=None
            Of the coefficients, standard deviations and correlations, as densities of these: see the estimator's
            `priors`. A density of a variance or of a covariance matrix counts as what it says of standard deviations
            and correlations. None: those of the model, else "weak". What `Posterior.as_priors` gives is the posterior
            of earlier data.
        n_draws : int, default=1024
            Draws, and evaluations of the likelihood, whose number is the next power of 2.
        random_state : int, RandomState or None, default=None

        Returns
        -------
        posterior : Posterior
            With `draws`, `summary()`, `probability("age > 0")`, `group_effects()`, `predict_proba`, `log_evidence_`.

        Raises
        ------
        ValueError
            If rows are missing or are not those of the fit, and for priors of parameters that there are not.

        Warns
        -----
        PosteriorWarning
            Where the weights of the draws say that averages are not to be trusted.
        RecurringGroupsWarning
            Where priors come from groups that are in these rows, too.

        Notes
        -----
        Rounds of N/4, N/4 and N/2 points of a scrambled Sobol sequence; the first proposal is a t distribution at the
        mode, later ones are mixtures with the moments of the weighted points so far; weights are against the mixture of
        all (Cornuet et al. 2012), and Pareto-smoothed (Vehtari et al. 2024). Standard deviations are sampled as square
        roots, correlations on Fisher's z scale. Results do not depend on the number of threads.

        References
        ----------
        Cornuet J-M, Marin J-M, Mira A, Robert CP (2012). Adaptive multiple importance sampling. Scandinavian Journal of
        Statistics 39, 798-812.

        Vehtari A, Simpson D, Gelman A, Yao Y, Gabry J (2024). Pareto smoothed importance sampling. Journal of Machine
        Learning Research 25(72), 1-58.

        Examples
        --------
        >>> from sklmm import MixedLogisticRegression
        >>> from sklmm.datasets import load_bacteria
        >>> children = load_bacteria(as_frame=True).frame
        >>> model = MixedLogisticRegression.from_formula("y ~ week + trt + (1 | ID)", children)
        >>> posterior = model.posterior(children, random_state=0)
        >>> posterior.probability("week < 0") > 0.95
        True
        """
        check_is_fitted(self)
        if not isinstance(n_draws, Integral) or isinstance(n_draws, bool) or n_draws < 1:
            raise ValueError(f"n_draws must be an integer of at least 1, got {n_draws!r}")
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        rows, structure = self._rows_of_fit("posterior", X, y, groups, sample_weight, offset, precision_weight)
        make, start = self._posterior_engine(rows, structure)
        engine = make()
        prior = self._priors_of_posterior(priors, rows)
        draws_prior = prior
        if isinstance(prior, ModelPriors):
            first = int(self._fitted.fit_intercept)
            n_slopes = engine.aliased.size - structure.slopes_only
            draws_prior = PriorsOfDraws(prior, first + np.flatnonzero(engine.aliased[:n_slopes]))
        if isinstance(prior, JointPrior):
            self._check_joint(prior, Coordinates(engine))
        target = LogPosterior(engine, draws_prior)
        n = max(FEWEST_POINTS, 1 << (int(n_draws) - 1).bit_length())
        with threadpool_limits(limits=1, user_api="blas"):  # sums that are the same for any number of threads
            mode, covariance = target.mode(start(engine))
            coordinates = target.coordinates
            places = {"folded": coordinates.folded, "split": coordinates.split}
            points = sample(target, mode, covariance, n=n, seed=seed, **places)
            found = Posterior(self, self._parameters(), make, coordinates, prior, points, mode, int(n_draws), seed)
        found.warn_if_poor()
        return found

    def _engine_of_rows(self, rows, structure, like=None):
        """How the likelihood of some rows is made, in the units of the fit; `like`: that of the fit's, for others."""
        return partial(make_engine, rows, structure, effective_threads(self.n_threads), self._fitted.units.units)

    def _posterior_engine(self, rows, structure):
        """How the likelihood of the fit's rows is made, and a function of it: its parameters at the fit."""
        fitted = self._fitted

        def start(engine):
            x = fitted.units.x
            value = engine.value(x)
            if abs(value - self.log_likelihood_) > SAME_ROWS * (1 + abs(self.log_likelihood_)):
                raise ValueError(
                    f"these are not the rows of the fit: their log-likelihood is {value:.6f}, and the fit's was "
                    f"{self.log_likelihood_:.6f}"
                )
            return x

        return self._engine_of_rows(rows, structure), start

    def _priors_of_posterior(self, priors, rows):
        """`ModelPriors` or `JointPrior`: what was asked for, or the model's own, or weak ones."""
        if isinstance(priors, (JointPrior, ModelPriors)):
            return priors
        check_priors(priors, soft=False)
        own = getattr(self._fitted, "priors", None)
        if priors is None and isinstance(own, ModelPriors):
            return own
        linear = not self._family().has_classes
        layout = Layout.of_fitted(self._fitted)
        return model_priors("weak" if priors is None else priors, layout, lambda: Spread.of(rows, linear))

    def _check_joint(self, prior, coordinates):
        """An error unless the parameters are those of the prior; a warning where groups are those it comes from."""
        held = {("fixed", int(j)) for j in coordinates.held}
        names = [each.name for each in self._parameters() if (each.kind, *each.positions) not in held]
        if names != prior.names:
            raise ValueError(
                f"the prior is of {listed(map(repr, prior.names))}, but the model's parameters are "
                f"{listed(map(repr, names))}: update a model of the same terms"
            )
        for factor in self._fitted.factors:
            known = prior.labels.get(factor.name)
            again = [] if known is None else factor.levels[lookup_codes(known, factor.levels) >= 0]
            if len(again):
                warn(
                    f"{len(again)} of {len(factor.levels)} groups of {factor.name!r} are among those that the prior "
                    f"comes from ({listed(map(repr, again), 5)}): they count twice, and intervals come out too short. "
                    "Update with new groups, or fit all rows at once",
                    RecurringGroupsWarning,
                )
