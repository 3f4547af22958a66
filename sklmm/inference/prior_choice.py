"""Which density each parameter of a model has: from "weak" or a dict by class or name to `ModelPriors`.

A name says more than a class, and a coefficient's own name more than a pattern or a term's: what says most counts.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from sklmm.inference.priors import ModelPriors, OfEffects, OfTerm
from sklmm.inference.terms import Terms
from sklmm.messages import listed
from sklmm.priors import LKJ, Exponential, Flat, HalfStudentT, Normal
from sklmm.priors.density import Density

CLASSES = ("fixed", "intercept", "coefficients", "sd", "variance", "covariance", "correlation", "residual_sd")
NAMED = ("soft", "weak")
CLASS, TERM, NAME = 1, 2, 3  # how much a key says
TAKES = {  # what a density of a class must be of, and an example
    "fixed": ("number", "Normal(0, 2.5)"),
    "intercept": ("number", "Normal(0, 2.5)"),
    "coefficients": ("vector", "MultivariateT(3, 0, 2.5)"),
    "sd": ("positive", "HalfNormal(1)"),
    "variance": ("positive", "Gamma(1.5, 1)"),
    "covariance": ("matrix", "Wishart(4.5)"),
    "correlation": ("correlation", "LKJ(2)"),
    "residual_sd": ("positive", "Exponential(1)"),
}
WIDTH = 2.5  # of weak priors, in standard deviations


@dataclass(frozen=True)
class Term:
    """Random coefficients whose covariance is one matrix, or whose variances stand alone.

    Attributes
    ----------
    name : str
    coefficients : list of str
    start : int
        Position of the first one, over all factors.
    columns : list of int
        Of X, -1 for the intercept.
    correlated : bool
    """

    name: str
    coefficients: list
    start: int
    columns: list
    correlated: bool


@dataclass(frozen=True)
class Layout:
    """The parameters of a model, as priors need to know them.

    Attributes
    ----------
    names : list of str
        Of the fixed effects, the intercept first if there is one.
    fit_intercept : bool
    terms : list of Term
    linear : bool
        Whether there is a residual standard deviation.
    formula : FormulaDesign or None
    """

    names: list
    fit_intercept: bool
    terms: list = field(default_factory=list)
    linear: bool = False
    formula: object = None

    @classmethod
    def of(cls, names, fit_intercept, factors, *, linear=False, formula=None):
        """The layout of a model with these factors (`Factor`)."""
        terms, start = [], 0
        for factor in factors:
            for (name, coefficients, part), (_, correlated) in zip(factor.term_slices(), factor.blocks, strict=True):
                columns = list(factor.columns[part])
                terms.append(Term(name, list(coefficients), start + part.start, columns, bool(correlated)))
            start += len(factor.columns)
        return cls(list(names), bool(fit_intercept), terms, linear, formula)

    @classmethod
    def of_fitted(cls, fitted):
        """The layout of a fitted mixed model (`FittedMixed`)."""
        linear = hasattr(fitted, "sigma")
        return cls.of(fitted.fixed_names, fitted.fit_intercept, fitted.factors, linear=linear, formula=fitted.formula)


@dataclass(frozen=True)
class Spread:
    """Means and standard deviations that weak priors take their scales from.

    Attributes
    ----------
    means, sds : ndarray of shape (p,)
        Of the columns of X.
    mean, sd : float
        Of a measured outcome less its offset; 0 and 1 of classes.
    """

    means: np.ndarray
    sds: np.ndarray
    mean: float = 0.0
    sd: float = 1.0

    @classmethod
    def of(cls, observations, linear):
        """Of the rows of a fit, each counted by its weight."""
        weights, y = observations.weights, observations.y
        columns = [_mean_and_sd(column, weights) for column in observations.X.T]
        means, sds = np.array(columns).T if columns else (np.zeros(0), np.zeros(0))
        if not linear:
            return cls(means, sds)
        outcome = y if observations.offset is None else y - observations.offset
        return cls(means, sds, *_mean_and_sd(outcome, weights))


def _mean_and_sd(values, weights):
    values = np.asarray(values, dtype=np.float64)
    mean = float(np.average(values, weights=weights))
    sd = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    return mean, sd if sd > 1e-12 * np.abs(values).max(initial=0.0) else 0.0


def check_priors(priors, soft=True):
    """A ValueError unless `priors` is None, a name or a dict of densities; what they are of is seen at the fit."""
    if priors is None or isinstance(priors, str) and priors in NAMED[0 if soft else 1 :]:
        return
    names = " or ".join(map(repr, NAMED[0 if soft else 1 :]))
    if not isinstance(priors, dict):
        raise ValueError(
            f"priors must be None, {names}, or a dict of densities from sklmm.priors, got {priors!r}"
            + ("" if soft else "; 'soft' is for binary outcomes")
        )
    for key, density in priors.items():
        if not isinstance(key, str) or not isinstance(density, Density):
            raise ValueError(
                f"priors must be a dict from a class or a parameter's name to a density from sklmm.priors, such as "
                f"{{'fixed': Normal(0, 2.5)}}, got {key!r}: {density!r}"
            )


def model_priors(chosen, layout, spread):
    """The priors of a model.

    Parameters
    ----------
    chosen : "weak" or dict
        See `MixedLogisticRegression`.
    layout : Layout
    spread : Spread, or callable () -> Spread
        Asked for "weak" alone.

    Returns
    -------
    ModelPriors

    Raises
    ------
    ValueError
        For names that the model does not have, densities of something else, and two priors of one thing.
    """
    if isinstance(chosen, str):
        return _finished(chosen, layout, *_weak(layout, spread() if callable(spread) else spread))
    return _finished(chosen, layout, *_Reading(chosen, layout).all())


def _finished(chosen, layout, effects, terms, residual):
    found = ModelPriors(chosen, tuple(effects), tuple(terms), residual)
    flat = [name for name, bound in zip(layout.names, found.bounds(len(layout.names)), strict=True) if not bound]
    proper = [each for each in terms if not each.density.improper]
    for term in layout.terms:
        at = range(term.start, term.start + len(term.coefficients))
        scaled = {p for each in proper if each.kind != "correlation" for p in each.positions}
        flat += [f"sd_{name}|{term.name}" for name, p in zip(term.coefficients, at, strict=True) if p not in scaled]
        joint = any(each.kind in ("covariance", "correlation") and set(at) <= set(each.positions) for each in proper)
        if term.correlated and len(at) > 1 and not joint:
            flat.append(f"correlations|{term.name}")
    if layout.linear and (residual is None or residual.improper):
        flat.append("sigma")
    return ModelPriors(chosen, tuple(effects), tuple(terms), residual, tuple(flat))


def _weak(layout, spread):
    """Weakly informative priors on the scale of the data: API of `priors="weak"`."""
    effects, terms, first, n = [], [], int(layout.fit_intercept), len(layout.names)
    means, sds, s = spread.means[: n - first], spread.sds, spread.sd or 1.0
    if layout.fit_intercept:
        effects.append(OfEffects("intercept at the features' means", Normal(spread.mean, WIDTH * s),
                                 np.concatenate([[1.0], means])[None]))  # fmt: skip
    for j, name in enumerate(layout.names[first:]):
        if sds[j] > 0.0:
            effects.append(OfEffects(name, Normal(0.0, WIDTH * s / sds[j]), np.eye(n)[first + j][None]))
    for term in layout.terms:
        for k, (name, column) in enumerate(zip(term.coefficients, term.columns, strict=True)):
            sd = 1.0 if column < 0 else sds[column]
            if sd > 0.0:
                density = HalfStudentT(3.0, WIDTH * s / sd)
                terms.append(OfTerm(f"sd_{name}|{term.name}", "sd", density, (term.start + k,)))
        if term.correlated and len(term.coefficients) > 1:
            terms.append(OfTerm(f"correlations|{term.name}", "correlation", LKJ(2.0), _positions(term)))
    return effects, terms, Exponential(1.0 / s) if layout.linear else None


def _positions(term):
    return tuple(range(term.start, term.start + len(term.coefficients)))


class _Reading:
    """A dict of priors, read key by key into slots: what a density is of -> (how much its key says, key, density)."""

    def __init__(self, chosen, layout):
        self.chosen, self.layout, self.slots = chosen, layout, {}
        self.named = Terms(layout.names, layout.formula)

    def all(self):
        """Effects, terms and the residual's density."""
        for key, density in self.chosen.items():
            self.read(key, density)
        return self.effects(), [each for term in self.layout.terms for each in self.of_term(term)], self.residual()

    def read(self, key, density):
        layout, first = self.layout, int(self.layout.fit_intercept)
        random = re.fullmatch(r"(sd|variance|cov|covariance|cor|correlation)s?(?:[ _]([^|]*))?\|(.*)", key, re.DOTALL)
        if key in CLASSES:
            self.read_class(key, density, first)
        elif key == "sigma" and layout.linear:
            self.keep(("residual_sd",), NAME, key, density, "residual_sd")
        elif random and self.read_random(key, density, *random.groups()):
            pass
        else:
            found = self.named.matching(key)
            if not set(found) <= set(layout.names):
                raise ValueError(f"priors: there is no parameter {key!r}; {self.known()}")
            for name in found:
                of = "intercept" if layout.fit_intercept and name == layout.names[0] else "fixed"
                self.keep(("effect", layout.names.index(name)), NAME if name == key else TERM, key, density, of)

    def read_class(self, key, density, first):
        layout = self.layout
        if key == "intercept" and not layout.fit_intercept:
            raise ValueError("priors: the model has no intercept, but there is a prior for it")
        if key == "residual_sd":
            if not layout.linear:
                raise ValueError("priors: a model of classes has no residual standard deviation")
            self.keep(("residual_sd",), CLASS, key, density, key)
        elif key == "coefficients":
            self.keep(("coefficients",), CLASS, key, density, key)
        elif key in ("fixed", "intercept"):
            places = range(first, len(layout.names)) if key == "fixed" else [0]
            for j in places:
                self.keep(("effect", j), CLASS, key, density, key)
            if key == "fixed" and not len(places):
                self.check(key, density, key)
        else:
            self.check(key, density, key)
            for term in layout.terms:
                self.read_term(key, density, key, term, CLASS)

    def read_random(self, key, density, kind, coefficient, term_name):
        """Whether a key such as "sd_age|district" or "covariance|district" was one of the model's."""
        kind = {"cov": "covariance", "cor": "correlation"}.get(kind, kind)
        term = next((term for term in self.layout.terms if term.name == term_name), None)
        if term is None:
            return False
        if not coefficient:
            if not self.read_term(key, density, kind, term, TERM):
                raise ValueError(f"priors: the random coefficients of {term_name!r} have no correlations ({key!r})")
            return True
        if kind == "correlation":  # "cor_age.intercept|district" of two coefficients is their matrix
            two = term.correlated and len(term.coefficients) == 2
            if two and coefficient == f"{term.coefficients[1]}.{term.coefficients[0]}":
                return self.read_term(key, density, kind, term, NAME)
            if two or not term.correlated:
                return False
            raise ValueError(
                f"priors: correlations of {len(term.coefficients)} random coefficients have a prior together: name it "
                f"'correlation|{term_name}' in place of {key!r}"
            )
        if kind == "covariance" or coefficient not in term.coefficients:
            return False
        slot = ("scale", term.start + term.coefficients.index(coefficient))
        self.keep(slot, NAME, key, density, kind)
        return True

    def read_term(self, key, density, kind, term, rank):
        at = _positions(term)
        if kind in ("sd", "variance"):
            for p in at:
                self.keep(("scale", p), rank, key, density, kind)
        elif kind == "covariance":
            for part in [at] if term.correlated else [(p,) for p in at]:
                self.keep(("covariance", part), rank, key, density, kind)
        elif term.correlated and len(at) > 1:
            self.keep(("correlation", at), rank, key, density, kind)
        else:
            return False
        return True

    def keep(self, slot, rank, key, density, kind):
        self.check(key, density, kind)
        if slot in self.slots:
            before, other = self.slots[slot][:2]
            if before == rank:
                raise ValueError(f"priors: {other!r} and {key!r} are both about the same parameter; leave one out")
            if before > rank:
                return
        self.slots[slot] = rank, key, density, kind

    def check(self, key, density, kind):
        of, example = TAKES[kind]
        if density.of not in (of, "any"):
            what = {"number": "of a coefficient", "vector": "of all coefficients jointly",
                    "positive": "of positive numbers", "matrix": "of a covariance matrix",
                    "correlation": "of correlations"}[of]  # fmt: skip
            raise ValueError(f"priors: {key!r} takes a density {what}, such as {example}, got {density!r}")

    def effects(self):
        n, slots = len(self.layout.names), self.slots
        single = {slot[1]: found for slot, found in slots.items() if slot[0] == "effect"}
        joint = slots.get(("coefficients",))
        if joint is not None and single:
            other = next(iter(single.values()))[1]
            raise ValueError(f"priors: 'coefficients' is of all of them jointly, and there is {other!r}, too; use one")
        if joint is not None:
            density = joint[2]
            if isinstance(density, Flat):
                return []
            density.check_size(n)
            return [OfEffects("coefficients", density, np.eye(n))]
        return [
            OfEffects(self.layout.names[j], density, np.eye(n)[j][None])
            for j, (_, _, density, _) in sorted(single.items()) if not isinstance(density, Flat)
        ]  # fmt: skip

    def of_term(self, term):
        at, slots, out = _positions(term), self.slots, []
        for part in [at] if term.correlated else [(p,) for p in at]:
            matrix, correlation = slots.get(("covariance", part)), slots.get(("correlation", part))
            scales = {p: slots[("scale", p)] for p in part if ("scale", p) in slots}
            others = [*scales.values(), *([] if correlation is None else [correlation])]
            if matrix is not None and others:
                most = max(others, key=lambda found: found[0])
                if most[0] == matrix[0]:
                    raise ValueError(
                        f"priors: {matrix[1]!r} is of the whole covariance of {term.name!r}, and {most[1]!r} of a part "
                        "of it; leave one out, or name the term of each, such as 'covariance|" + term.name + "'"
                    )
                if most[0] < matrix[0]:
                    scales, correlation = {}, None
                else:
                    matrix = None
            if matrix is not None and not isinstance(matrix[2], Flat):
                matrix[2].check_size(len(part))
                out.append(OfTerm(f"covariance|{term.name}", "covariance", matrix[2], part))
            for p, (_, _, density, kind) in scales.items():
                if not isinstance(density, Flat):
                    name = term.coefficients[p - term.start]
                    out.append(OfTerm(f"{kind}_{name}|{term.name}", kind, density, (p,)))
            if correlation is not None and not isinstance(correlation[2], Flat):
                out.append(OfTerm(f"correlations|{term.name}", "correlation", correlation[2], part))
        return out

    def residual(self):
        found = self.slots.get(("residual_sd",))
        return None if found is None or isinstance(found[2], Flat) else found[2]

    def known(self):
        names = [f"sd_{name}|{term.name}" for term in self.layout.terms for name in term.coefficients]
        names += ["sigma"] if self.layout.linear else []
        return (
            f"there are {listed(map(repr, [*self.layout.names, *names]))}, and the classes "
            f"{listed(map(repr, CLASSES))}"
        )
