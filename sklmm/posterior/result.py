"""The posterior of a mixed model: draws of its parameters, and what they say of parameters, groups and new rows."""

import copy
from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from sklmm.exceptions import PosteriorWarning
from sklmm.inference.tables import Table
from sklmm.inference.wald import check_level
from sklmm.messages import warn
from sklmm.passes.threads import effective_threads
from sklmm.posterior.conditional import effects_at, predictor_at
from sklmm.posterior.export import to_arviz
from sklmm.posterior.importance import moments
from sklmm.posterior.joint_prior import JointPrior
from sklmm.posterior.leaving_out import MOST_NUMBERS, leave_group_out, log_likelihoods_by_level
from sklmm.posterior.pareto import trusted_below
from sklmm.posterior.statements import holds
from sklmm.prediction.predictor import probabilities

EFFECT_NUMBERS, FEWEST_DRAWS = 20_000_000, 64  # effects of groups that are held, and draws that they take at least
DRAWS_OF_PREDICTIONS = 256


class Posterior:
    """The posterior distribution of a mixed model's parameters, what ``model.posterior(...)`` gives.

    Points of the parameters with weights (adaptive importance sampling around the mode, with quasi-random points and
    Pareto-smoothed weights) stand for it; `draws` are of equal weight. The likelihood is the model's own marginal one,
    by Laplace's approximation or quadrature as in the fit; of linear models that of maximum likelihood.

    Attributes
    ----------
    draws : DataFrame of shape (n_draws, n_parameters)
        Coefficients, standard deviations, correlations and a residual standard deviation, in the user's units, by the
        names of `conf_int`; coefficients that the fit left out are not among them.
    model : estimator
        The fitted model.
    prior : ModelPriors or JointPrior
    pareto_k_ : float
        Shape of the weights' tail: averages are to be trusted below 0.67 for 1,024 draws.
    effective_size_ : float
        How many independent draws the weights are worth; quasi-random points are worth more.
    log_evidence_, log_evidence_error_ : float
        Log of the probability of the outcomes, all parameters integrated out, and its error. Only with proper priors.
    map_ : Series
        The posterior mode in the coordinates of sampling, as parameters.

    Notes
    -----
    It holds the rows, for what is said of groups.
    """

    def __init__(self, model, parameters, make_engine, coordinates, prior, points, mode, n_draws, seed):
        self.model, self.prior, self.points = model, prior, points
        self._make_engine, self.coordinates, self._seed = make_engine, coordinates, seed
        held = {("fixed", int(j)) for j in coordinates.held}
        self.parameters = [each for each in parameters if (each.kind, *each.positions) not in held]
        self.values = self._of_user(coordinates.user(points.points))
        self.map_ = pd.Series(self._of_user(coordinates.user(mode))[0], index=self.names, name="mode")
        self.draw_positions = points.resampled(n_draws, np.random.default_rng([seed, 1]))
        self.draws = pd.DataFrame(self.values[self.draw_positions], columns=self.names)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "engine"}

    @cached_property
    def engine(self):
        """The likelihood of the rows."""
        return self._make_engine()

    @property
    def n_threads(self):
        return effective_threads(self.model.n_threads)

    @property
    def names(self):
        """Names of the parameters."""
        return [each.name for each in self.parameters]

    def _of_user(self, user):
        """Values of the parameters, a row a point."""
        R, columns = user.correlations, []
        for each in self.parameters:
            at = each.positions
            if each.kind == "fixed":
                columns.append(user.beta[:, at[0]])
            elif not at:
                columns.append(user.sigma)
            else:
                columns.append(user.sds[:, at[0]] if len(at) == 1 else R[:, at[0], at[1]])
        return np.column_stack(columns) if columns else np.empty((len(user.beta), 0))

    # Diagnostics -------------------------------------------------------------------------------------------------

    @property
    def pareto_k_(self):
        """Shape of the tail of the weights."""
        return self.points.pareto_k

    @property
    def effective_size_(self):
        """How many independent draws the weights are worth."""
        return self.points.effective_size

    @property
    def refusal(self):
        """Why there is no evidence; None where there is."""
        if not self.prior.improper:
            return None
        return (
            f"the prior of {', '.join(map(repr, self.prior.flat))} is improper, so that the evidence is anything: give "
            "priors='weak', or a proper density for each parameter"
        )

    @property
    def log_evidence_(self):
        """Log of the probability of the outcomes under the model and its priors."""
        if self.refusal:
            raise AttributeError(self.refusal)
        return self.points.log_evidence

    @property
    def log_evidence_error_(self):
        """Standard error of `log_evidence_`, as if points were independent."""
        if self.refusal:
            raise AttributeError(self.refusal)
        return self.points.log_evidence_error

    def warn_if_poor(self):
        """A warning where the weights say that averages are not to be trusted."""
        if not self.points.trusted:
            n = len(self.points.weights)
            warn(
                f"the posterior's draws have a Pareto k of {self.pareto_k_:.2f}, above {trusted_below(n):.2f}, and an "
                f"effective size of {self.effective_size_:.0f} of {n:,}: averages over them may be off. Draw more "
                f"(n_draws={2 * n}), or give priors that bound the parameters",
                PosteriorWarning,
            )

    def _note(self):
        evidence = "" if self.refusal else (
            f" Log evidence {self.log_evidence_:.3f} (standard error {self.log_evidence_error_:.3f})."
        )
        return (
            f"{len(self.points.weights):,} points, effective size {self.effective_size_:.0f}, Pareto k "
            f"{self.pareto_k_:.2f} ({'good' if self.points.trusted else 'poor: draw more'}).{evidence}"
        )  # fmt: skip

    # Parameters --------------------------------------------------------------------------------------------------

    def summary(self, level=0.95):
        """Means, standard deviations and intervals of the parameters.

        Parameters
        ----------
        level : float, default=0.95
            Of the equal-tailed credible intervals.

        Returns
        -------
        table : Table
            A row a parameter; columns "mean", "sd", "median", "lower", "upper", and "error", the standard error of the
            mean by simulation, as if points were independent.
        """
        level = check_level(level)
        mean, covariance = moments(self.values, self.points.weights)
        sd = np.sqrt(np.diagonal(covariance))
        tails = self.quantile([0.5, 0.5 - level / 2, 0.5 + level / 2])
        columns = [mean, sd, *tails.to_numpy().T, sd / np.sqrt(self.effective_size_)]
        names = ["mean", "sd", "median", "lower", "upper", "error"]
        return Table(dict(zip(names, columns, strict=True)), index=self.names).with_note(self._note())

    def quantile(self, q):
        """Quantiles of the parameters.

        Parameters
        ----------
        q : float or list of float

        Returns
        -------
        quantiles : DataFrame
            A row a parameter, a column a quantile.
        """
        q = np.atleast_1d(np.asarray(q, dtype=float))
        if ((q < 0.0) | (q > 1.0)).any():
            raise ValueError(f"quantiles are between 0 and 1, got {q.tolist()}")
        return pd.DataFrame([weighted_quantiles(v, self.points.weights, q) for v in self.values.T],
                            index=self.names, columns=q)  # fmt: skip

    def probability(self, statement):
        """Probability that a statement about the parameters is true.

        Parameters
        ----------
        statement : str or callable
            Comparisons of linear expressions in the names of the parameters: "age > 0", "livch1 < livch2",
            "0.2 < sd_intercept|district < 0.6", "age > 0 and urban[T.Y] > 0.5". "livch* > 0" is of all such
            coefficients jointly. Or a function of the frame of points that says for each row whether it is true.

        Returns
        -------
        probability : float
        """
        frame = pd.DataFrame(self.values, columns=self.names)
        true = holds(statement, frame, self.model._fitted.formula)
        return float(min(self.points.weights[true].sum(), 1.0))

    def as_priors(self):
        """The posterior as the prior of the next data set: a joint density of all parameters, see `JointPrior`.

        The next data must be of other groups: the same ones would be counted twice, and their intervals come out too
        short. ``posterior`` warns where labels recur.

        Returns
        -------
        prior : JointPrior
        """
        labels = {factor.name: factor.levels for factor in self.model._fitted.factors}
        return JointPrior.of(self.names, self.coordinates, self.points, labels)

    # Groups ------------------------------------------------------------------------------------------------------

    @property
    def factor_name(self):
        """Name of the one grouping factor."""
        return self.model._fitted.factors[0].name

    @cached_property
    def _draws_of_engine(self):
        return self.coordinates.engine(self.points.points)

    def _at(self, n):
        """Positions of n draws of equal weight, each once, and how often each came."""
        return np.unique(self.points.resampled(n, np.random.default_rng([self._seed, 2])), return_counts=True)

    def group_effects(self, term=None, level=0.95):
        """Posterior of the random effects of each group, the parameters' uncertainty included.

        Parameters
        ----------
        term : str, default=None
            Name of a term, such as "district"; None: the first one.
        level : float, default=0.95

        Returns
        -------
        table : Table
            A row a group and random coefficient; columns "mean", "sd", "lower", "upper". Means and standard deviations
            are integrals given the parameters; limits are quantiles of draws.
        """
        level = check_level(level)
        terms = {name: (f, coefficients, part) for f, factor in enumerate(self.model._fitted.factors)
                 for name, coefficients, part in factor.term_slices()}  # fmt: skip
        if not terms:
            raise ValueError("the model has no random effects")
        term = next(iter(terms)) if term is None else term
        if term not in terms:
            raise ValueError(f"there is no term {term!r} of random effects; there are {', '.join(map(repr, terms))}")
        f, coefficients, part = terms[term]
        levels, rng = self.model._fitted.factors[f].levels, np.random.default_rng([self._seed, 3])
        size = max(len(levels) * len(coefficients), 1)
        at, counts = self._at(int(np.clip(EFFECT_NUMBERS // size, FEWEST_DRAWS, len(self.draws))))
        first = second = 0.0
        drawn = []
        for i, count in zip(at, counts, strict=True):
            found = effects_at(self.engine, self._draws_of_engine[i], f, rng, self.n_threads, count)
            mean, variance, draws = (each[..., part] for each in found)
            drawn.append(draws)
            first, second = first + count * mean, second + count * (variance + mean**2)
        n = counts.sum()
        mean = first / n
        sd = np.sqrt(np.maximum(second / n - mean**2, 0.0))
        lower, upper = np.quantile(np.concatenate(drawn), [0.5 - level / 2, 0.5 + level / 2], axis=0)
        index = pd.MultiIndex.from_product([levels, coefficients], names=[term, "coefficient"])
        columns = {"mean": mean, "sd": sd, "lower": lower, "upper": upper}
        return Table({name: values.ravel() for name, values in columns.items()}, index=index)

    @cached_property
    def _log_likelihoods(self):
        """Points that count, their weights, and log-likelihoods of the levels there."""
        factors = self.model._fitted.factors
        if not getattr(self.engine, "has_clusters", False) or len(factors) != 1:
            which = "several grouping factors, whose groups are not independent" if factors else "no groups"
            raise ValueError(f"leaving a group out is for models of one grouping factor; this one has {which}")
        n = len(self.points.weights)
        if n * len(factors[0].levels) > MOST_NUMBERS:
            at, counts = self._at(max(MOST_NUMBERS // len(factors[0].levels), FEWEST_DRAWS))
            weights = counts / counts.sum()
        else:
            at = np.flatnonzero(self.points.weights > 0.0)
            weights = self.points.weights[at]
        return at, weights, log_likelihoods_by_level(self.engine, self._draws_of_engine[at])

    def leave_group_out(self):
        """Each group predicted from the others: log predictive density of its rows, the parameters integrated out.

        Returns
        -------
        table : Table
            A row a group, columns "elpd" and "pareto_k", above 0.67 not to be trusted; their sum and its standard error
            are in ``attrs``.

        Raises
        ------
        ValueError
            If there are several grouping factors, or none.

        References
        ----------
        Merkle EC, Furr D, Rabe-Hesketh S (2019). Bayesian comparison of latent variable models: conditional versus
        marginal likelihoods. Psychometrika 84, 802-829.
        """
        _, weights, values = self._log_likelihoods
        return leave_group_out(values, np.log(weights), self.model._fitted.factors[0].levels, self.factor_name)

    def to_arviz(self):
        """The draws in arviz's container: InferenceData, or from arviz 1.0 on a DataTree.

        One chain of draws of equal weight, with the log-likelihood of each group where there is one grouping factor.

        Returns
        -------
        data : InferenceData or DataTree

        Raises
        ------
        ImportError
            Without arviz.
        """
        if getattr(self.engine, "has_clusters", False) and len(self.model._fitted.factors) == 1:
            at, _, values = self._log_likelihoods
            place = np.searchsorted(at, self.draw_positions)
            if place.max() < len(at) and (at[place] == self.draw_positions).all():
                return to_arviz(self, values[place])
        return to_arviz(self)

    # New rows ----------------------------------------------------------------------------------------------------

    def _new_rows(self, X, groups, offset, precision_weight=None):
        model = self.model
        rows = model._read_new_rows(X, groups, offset, precision_weight)
        return rows, model._lookup(rows)

    def _predictors(self, n_draws):
        n_draws = min(DRAWS_OF_PREDICTIONS, len(self.draws)) if n_draws is None else int(n_draws)
        if n_draws < 1:
            raise ValueError(f"n_draws must be at least 1, got {n_draws}")
        for i, count in zip(*self._at(n_draws), strict=True):
            yield count / n_draws, predictor_at(self.engine, self._draws_of_engine[i], self.n_threads)

    def update_groups(self, X, y=None, groups=None, *, sample_weight=None, offset=None):
        """The posterior of the same parameters, beside other rows: what these say of their groups.

        The parameters' posterior stays that of the rows of the fit, as fixed effects do in the model's `update_groups`.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            Rows of new or known groups, as the model's `update_groups` takes them.

        Returns
        -------
        posterior : Posterior
            It knows the groups of these rows, and no others.
        """
        rows, factors, encoded, _ = self.model._groups_to_learn(X, y, groups, sample_weight, offset)
        structure = self.engine.structure
        terms = [factor.structure(len(levels)) for factor, (_, levels) in zip(factors, encoded, strict=True)]
        updated = copy.copy(self)
        updated.__dict__.pop("engine", None)
        updated.__dict__.pop("_log_likelihoods", None)
        updated._make_engine = self.model._engine_of_rows(rows, replace(structure, factors=terms), self.engine)
        updated.model = copy.copy(self.model)
        known = []
        for factor, (_, levels) in zip(factors, encoded, strict=True):
            factor = copy.copy(factor)
            factor.levels = levels
            known.append(factor)
        updated.model._fitted = replace(self.model._fitted, factors=known)
        return updated

    def predict_proba(self, X, groups=None, *, offset=None, n_draws=None):
        """Probabilities of the classes, averaged over the posterior of the parameters and of the group's effects.

        Parameters
        ----------
        X, groups, offset
            As in the model's `predict_proba`. A group that the rows did not have is one of the population.
        n_draws : int, default=None
            Draws of the parameters that are averaged over; None: 256.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
        """
        if not self.model._fitted.family.has_classes:
            raise AttributeError("predict_proba is of classes, and the outcome is a number: there is predict")
        rows, codes = self._new_rows(X, groups, offset)
        total = np.zeros(rows.X.shape[0])
        for share, predictor in self._predictors(n_draws):
            small, is_event = predictor.tails(rows.X, codes, "posterior", offset=rows.offset)
            total += share * np.where(is_event, 1.0 - small, small)
        second = total if self.model._fitted.event else 1.0 - total
        return probabilities(np.minimum(second, 1.0 - second), second > 0.5)

    def predict(self, X, groups=None, *, offset=None, n_draws=None, return_std=False, precision_weight=None):
        """The likelier class, or the expected outcome of a linear model, averaged over the posterior.

        Parameters
        ----------
        X, groups, offset, n_draws
            As in `predict_proba`.
        return_std : bool, default=False
            Of a linear model: whether to return the standard deviation of a new outcome, too, in which the parameters'
            uncertainty is included.
        precision_weight : array-like of shape (n_samples,), default=None
            Of a linear model: what a new outcome's residual variance is divided by.

        Returns
        -------
        predicted : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Only if `return_std`.
        """
        if self.model._fitted.family.has_classes:
            if return_std:
                raise ValueError("return_std is for linear models: a class has no standard deviation")
            second = self.predict_proba(X, groups, offset=offset, n_draws=n_draws)[:, 1] > 0.5
            return self.model.classes_[second.astype(np.intp)]
        rows, codes = self._new_rows(X, groups, offset, precision_weight)
        precision = 1.0 if rows.precision_weight is None else rows.precision_weight
        first = second = 0.0
        for share, predictor in self._predictors(n_draws):
            X = np.asarray(rows.X, dtype=np.float64)
            mean, sd, _ = predictor.linear_predictor(X, codes, "posterior", rows.offset)
            variance = predictor.sigma**2 / precision + (0.0 if sd is None else sd**2)
            first, second = first + share * mean, second + share * (variance + mean**2)
        return (first, np.sqrt(np.maximum(second - first**2, 0.0))) if return_std else first

    def __repr__(self):
        return repr(self.summary())


def weighted_quantiles(values, weights, q):
    """Quantiles of weighted numbers: the weighted distribution function, with half of each weight before its number."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return np.interp(q, (cumulative - 0.5 * weights[order]) / cumulative[-1], values[order])
