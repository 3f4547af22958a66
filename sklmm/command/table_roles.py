"""Which column of a table plays which part, as the user names them."""

from dataclasses import dataclass, field
from itertools import product

from sklmm.command.table_reading import InputError, listed, unknown_column
from sklmm.design.random_effects import parse_random_effects, quoted, unknown_name_error


@dataclass
class Roles:
    """Which column is what, as the user names them.

    Attributes
    ----------
    target : str
    groups : list of str
        The first one defines the clusters.
    features : list of str or None
        None: every column without another role.
    exclude, categorical : list of str
        Columns to leave out; columns whose numbers are labels.
    time, sample_weight, offset : str or None
    trials : str or None
        Numbers of trials, of which the target counts the successes.
    random_effects : list of str or None
        Terms in bar notation over the table's columns.
    """

    target: str
    groups: list
    features: list | None = None
    exclude: list = field(default_factory=list)
    categorical: list = field(default_factory=list)
    time: str | None = None
    sample_weight: str | None = None
    offset: str | None = None
    trials: str | None = None
    random_effects: list | None = None

    def resolve(self, columns):
        """Check the names against the table's columns, and fill in the features.

        Parameters
        ----------
        columns : list of str

        Returns
        -------
        features : list of str
        terms : list of RandomTerm or None
        """
        for option in ("groups", "features", "exclude", "categorical"):
            setattr(self, option, _split_at_commas(getattr(self, option), columns))
        single = [
            ("--target", self.target),
            ("--time", self.time),
            ("--sample-weight", self.sample_weight),
            ("--offset", self.offset),
            ("--trials", self.trials),
        ]
        several = [
            ("--groups", self.groups),
            ("--features", self.features or []),
            ("--exclude", self.exclude),
            ("--categorical", self.categorical),
        ]
        named = [(option, name) for option, name in single if name is not None]
        named += [(option, name) for option, names in several for name in names]
        for option, name in named:
            if name not in columns:
                raise unknown_column(option, name, columns)
        for option, names in several:
            if len(set(names)) < len(names):
                raise InputError(f"{option} names a column twice: {listed(names)}")
        roles = {}
        # A time may be a feature, too; every other pair of roles is a mistake.
        for option, name in named:
            if option in ("--categorical", "--time") or (option in ("--features", "--exclude") and name == self.time):
                continue
            if name in roles:
                raise InputError(f"column {name!r} is named in {roles[name]} and in {option}: it can't be both")
            roles[name] = option
        if roles.get(self.time, "--features") not in ("--features", "--exclude"):
            raise InputError(f"column {self.time!r} is named in {roles[self.time]} and in --time: it can't be both")
        features = self.features
        if features is None:
            features = [name for name in columns if name not in roles and name not in self.exclude]
        return features, self._terms(columns, features)

    def _terms(self, columns, features):
        if self.random_effects is None:
            return None
        try:
            terms = parse_random_effects(self.random_effects, self.groups)
            for term in terms:
                for name in _columns_of(term, features):
                    if name not in features:
                        raise unknown_name_error(term, name, features, "feature")
                for name in term.factor:
                    if name not in columns:
                        raise unknown_name_error(term, name, columns, "group")
        except ValueError as error:
            # The parser's message speaks of the estimator's parameter and of its X.
            text = str(error).replace("feature of X", "feature")
            raise InputError("--random-effects" + text[text.index(":") :]) from None
        for term in terms:
            if not set(term.factor) & set(self.groups):
                raise InputError(
                    f"--random-effects: {term.factor_name!r} stands right of the bar in {term.source!r}: name it in "
                    "--groups, too"
                )
        return terms


def over_encoded(terms, encoded, left_out):
    """Terms in bar notation over the encoded columns: the slope of a column of labels is one for each contrast.

    Parameters
    ----------
    terms : list of RandomTerm or None
    encoded : dict of str -> list of str
        For each feature the columns that code it.
    left_out : dict of str -> str
        Features that are not coded, with the reason.

    Returns
    -------
    texts : list of str or None
    """
    if terms is None:
        return None
    texts = []
    for term in terms:
        names = []
        for name in _columns_of(term, encoded):
            if name in left_out:
                raise InputError(
                    f"--random-effects: {term.source!r} has a slope of {name!r}, but that column is left out: "
                    f"{left_out[name]}"
                )
        for feature in term.features:
            columns = (encoded[name] for name in _multiplied(term, feature, encoded))
            names += [":".join(map(quoted, multiplied)) for multiplied in product(*columns)]
        left = " + ".join(["1" if term.intercept else "0", *names])
        texts.append(f"{left} {'|' if term.correlated else '||'} {':'.join(map(quoted, term.factor))}")
    return texts


def _multiplied(term, feature, columns):
    """The columns whose product a slope is; one, where a column has just that name."""
    return (feature,) if feature in columns else term.multiplied(feature)


def _columns_of(term, columns):
    return [name for feature in term.features for name in _multiplied(term, feature, columns)]


def _split_at_commas(names, columns):
    """Names as lists of column names are often written, "age,urban", unless a column has just that name."""
    if names is None:
        return None
    found = []
    for name in names:
        parts = [] if name in columns else [part.strip() for part in name.split(",")]
        found += [part for part in parts if part] or [name]
    return found
