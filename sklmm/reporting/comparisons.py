"""What goes with a feature, in the outcome's own units: the average prediction when all rows are set to a value of it.

For readers who know no odds: "use = 'Y' in 50 % of the rows where urban is Y, in 36 % where it is N". The averages are
those of `average_marginal_effects` and `estimated_means`: over the rows given, all else as it is in them, and over the
population of groups; errors by the delta method.
"""

from dataclasses import dataclass, field

import numpy as np

from sklmm.inference.wald import check_level, reference_distribution
from sklmm.prediction.population import averages, degrees_of_freedom, delta_errors, parameter_covariance
from sklmm.prediction.reference_rows import Variables

MOST_ROWS = 20_000  # that averages are over: more do not change what is read from them
_TAILS = (0.1, 0.9)
_POINTS = 25  # of a curve
_MOST_LEVELS = 30


@dataclass(frozen=True)
class Comparison:
    """Average predictions at two settings of a feature.

    Attributes
    ----------
    feature : str
    before, after : str
        The settings.
    means : (float, float)
        Average predictions at them.
    difference, lower, upper : float
        Of the second to the first, with its interval.
    distance : float
        The difference in standard errors.
    is_number : bool
        Whether the settings are values of a feature that takes many.
    """

    feature: str
    before: str
    after: str
    means: tuple
    difference: float
    lower: float
    upper: float
    distance: float
    is_number: bool

    @property
    def is_sure(self):
        """Whether the interval leaves out 0."""
        return self.lower > 0 or self.upper < 0


@dataclass(frozen=True)
class Curve:
    """Average predictions over the values of a feature.

    Attributes
    ----------
    feature : str
    values : ndarray of numbers, or list of labels
    mean, lower, upper : ndarray of shape (n_values,)
    distance : float
        How clear the effect is: the largest difference to the first value, in standard errors.
    """

    feature: str
    values: object
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    distance: float


@dataclass
class Comparisons:
    """Comparisons and curves of every feature of a fitted model.

    Parameters
    ----------
    estimator : fitted estimator
    X : {array-like, dataframe}
        Rows to average over, such as `predict` takes, without missing values.
    factors : dict of str -> dict of str -> str or None, default={}
        Features that several columns of indicators stand for: for each level its column, None for the reference.
    offset, sample_weight : ndarray of shape (n,) or None
    level : float, default=0.95

    Attributes
    ----------
    comparisons : list of Comparison
    curves : list of Curve
    untold, separated : list of str
        Features of which nothing can be said: columns that depend on others; and those without a finite estimate.
    """

    estimator: object
    X: object
    factors: dict = field(default_factory=dict)
    offset: np.ndarray | None = None
    sample_weight: np.ndarray | None = None
    level: float = 0.95

    def __post_init__(self):
        check_level(self.level)
        X, offset, weights = self.X, self.offset, self.sample_weight
        if len(X) > MOST_ROWS:
            rows = np.sort(np.random.default_rng(0).choice(len(X), MOST_ROWS, replace=False))
            X = X.iloc[rows] if hasattr(X, "iloc") else X[rows]
            offset, weights = (None if part is None else np.asarray(part)[rows] for part in (offset, weights))
        self.variables = Variables(self.estimator, X, offset, weights)
        self._vcov = parameter_covariance(self.estimator)
        self.comparisons, self.curves, self.untold, self.separated = [], [], [], []
        for feature, settings in self._settings():
            self._compare(feature, settings)

    def most_certain(self):
        """A comparison a feature, the one with the clearest difference; features in the order of these."""
        best = {}
        for found in self.comparisons:
            if found.feature not in best or abs(found.distance) > abs(best[found.feature].distance):
                best[found.feature] = found
        return sorted(best.values(), key=lambda found: -abs(found.distance))

    # What is compared ---------------------------------------------------------------------------------------

    def _settings(self):
        """For each feature its settings: pairs of a label or number and changes of columns."""
        variables = self.variables
        columns = {column for levels in self.factors.values() for column in levels.values() if column is not None}
        for feature, levels in self.factors.items():
            of_factor = [column for column in levels.values() if column is not None]
            yield feature, [
                (level, {column: float(column == chosen) for column in of_factor}) for level, chosen in levels.items()
            ]
        for name in variables.chosen(None):
            if name in columns:
                continue
            levels = variables.levels(name)
            if levels is not None:
                yield name, [(level, {name: level}) for level in list(levels)[:_MOST_LEVELS]]
                continue
            values = variables.frame[name].to_numpy(dtype=np.float64)
            grid = np.linspace(values.min(), values.max(), _POINTS)
            yield name, [(value, {name: value}) for value in [*_tails(values, variables.weights), *grid]]

    def _compare(self, feature, settings):
        """Averages at every setting, and what they say."""
        variables = self.variables
        columns = list(settings[0][1])
        if any(variables.is_blank(name) for name in columns):
            self.separated.append(feature)
            return
        labels, means, gradients, before = [label for label, _ in settings], [], [], None
        for _, changes in settings:
            X, offset = variables.design(changes)
            before = X if before is None else before
            # Of a column that depends on others, the rows change to what the fit knows nothing of.
            if variables.not_estimable(columns[0], X, before, np.ones(variables.n_rows), variables.weights):
                self.untold.append(feature)
                return
            mean, gradient = averages(self.estimator, X, offset, variables.weights)
            means.append(mean)
            gradients.append(gradient)
        means, gradients = np.array(means), np.array(gradients)
        differences = gradients - gradients[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            distances = (means - means[0]) / delta_errors(differences, self._vcov)
        numeric = variables.levels(feature) is None if feature in variables.names else False
        pairs, curve = ([1], slice(2, None)) if numeric else (range(1, len(labels)), slice(None))
        for k in pairs:
            reach = self._reach(differences[k])
            change = means[k] - means[0]
            self.comparisons.append(
                Comparison(
                    feature, shown(labels[0]), shown(labels[k]), (means[0], means[k]), change, change - reach,
                    change + reach, float(distances[k]), numeric,
                )  # fmt: skip
            )
        family = self.estimator._fitted.family
        linked = family.link(means) if family.has_classes else means
        reach = np.array([self._reach(gradient) for gradient in gradients / family.slope(means, linked)[:, None]])
        lower, upper = (family.mean(linked + sign * reach) for sign in (-1, 1))
        values = np.array(labels[2:], dtype=float) if numeric else [shown(label) for label in labels]
        clearest = np.nanmax(np.abs(distances[1:])) if np.isfinite(distances[1:]).any() else 0.0
        self.curves.append(Curve(feature, values, means[curve], lower[curve], upper[curve], float(clearest)))

    def _reach(self, gradient):
        """Half the width of the interval of a quantity with this gradient."""
        df = degrees_of_freedom(self.estimator, gradient[None])
        error = delta_errors(gradient[None], self._vcov)[0]
        return float(np.ravel(reference_distribution(df).ppf((1 + self.level) / 2) * error)[0])


def _tails(values, weights):
    """Values with a tenth of the rows below and above; the ends where these are one."""
    low, high = np.quantile(values, _TAILS, weights=weights, method="inverted_cdf")
    return (low, high) if low < high else (values.min(), values.max())


def shown(value):
    """A setting: 1 and not 1.0."""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
