"""What an encoding of a column of many categories is worth: log loss of models downstream, and the encoder's time.

    python benchmarks/encoding.py [--categories 10000] [--repetitions 5] [--peer-categories 1000]

Rows of a logistic model with five features and a normal effect of each category; sizes of categories are uneven, and
some categories occur in test rows only. Training rows are encoded by `fit_transform`, test rows by `transform`; then
logistic regression and gradient boosting get the encoded column beside the features. Prints a Markdown table: mean log
loss of test rows, its paired difference to MixedEffectEncoder with the standard error over repetitions, and the process
time of encoding in units of MixedEffectEncoder's, the median of the repetitions.

category_encoders' GLMMEncoder (`pip install category_encoders`) fits the same model by variational Bayes. Its optimiser
multiplies square matrices with two rows a category, so that its time grows with the third power of the categories: it
is run once, on a column of `--peer-categories`. It does not cross-fit. For the large column, MixedEffectEncoder without
cross-fitting stands in for it: the correlation printed below the tables shows how alike their numbers are.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import TargetEncoder

from sklmm.encoding import MixedEffectEncoder

ROWS_PER_CATEGORY = 10
COEF, INTERCEPT, SD = [0.8, -0.5, 0.3, 0.0, 0.0], -1.0, 1.0
MODELS = {"logistic regression": LogisticRegression, "gradient boosting": HistGradientBoostingClassifier}
OURS = "MixedEffectEncoder"


class WithoutCrossFitting(MixedEffectEncoder):
    """Encodes training rows by their own outcomes, too."""

    def fit_transform(self, X, y):
        return self.fit(X, y).transform(X)


def make(n_categories, seed):
    """Features, the column as a data frame, and the target."""
    rng = np.random.default_rng(seed)
    n_rows = ROWS_PER_CATEGORY * n_categories
    features = rng.standard_normal((n_rows, len(COEF)))
    category = rng.choice(n_categories, size=n_rows, p=rng.dirichlet(np.ones(n_categories)))
    logit = INTERCEPT + features @ COEF + SD * rng.standard_normal(n_categories)[category]
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    names = np.char.add("c", np.arange(n_categories).astype(str)).astype(object)
    return features, pd.DataFrame({"category": names[category]}), pd.Series(y)


def evaluate(encoder, features, column, y, seed):
    """Seconds of encoding, log loss by model, and the encoded test rows."""
    split = train_test_split(features, column, y, random_state=seed)
    train_features, test_features, train_column, test_column, train_y, test_y = split
    began = time.process_time()
    train_encoded = np.asarray(encoder.fit_transform(train_column, train_y))
    test_encoded = np.asarray(encoder.transform(test_column))
    seconds = time.process_time() - began
    train = np.column_stack([train_features, train_encoded])
    test = np.column_stack([test_features, test_encoded])
    losses = [
        log_loss(test_y, make_model(random_state=seed).fit(train, train_y).predict_proba(test)[:, 1])
        for make_model in MODELS.values()
    ]
    return seconds, losses, test_encoded[:, 0]


def compare(encoders, n_categories, n_repetitions):
    """Print the table of one size of column. Returns the encoded test rows of the last repetition by encoder."""
    seconds = {name: [] for name in encoders}
    losses = {name: [] for name in encoders}
    encoded = {}
    for seed in range(n_repetitions):
        features, column, y = make(n_categories, seed)
        for name, make_encoder in encoders.items():
            spent, loss, encoded[name] = evaluate(make_encoder(seed), features, column, y, seed)
            seconds[name].append(spent)
            losses[name].append(loss)
    print(f"\n{n_categories:,} categories, {len(y):,} rows, {n_repetitions} repetition(s)\n")
    print("| encoder | " + " | ".join(f"{model} | less ours" for model in MODELS) + " | time |")
    print("|---" + "|---:" * (2 * len(MODELS) + 1) + "|")
    for name in encoders:
        cells = []
        for loss, ours in zip(np.transpose(losses[name]), np.transpose(losses[OURS]), strict=True):
            error = f" ({(loss - ours).std(ddof=1) / np.sqrt(n_repetitions):.5f})" if n_repetitions > 1 else ""
            cells += [f"{loss.mean():.5f}", "-" if name == OURS else f"{(loss - ours).mean():+.5f}{error}"]
        ratio = np.median(np.divide(seconds[name], seconds[OURS]))
        print(f"| {name} | {' | '.join(cells)} | {ratio:,.3g} |")
    print(f"\n{OURS} takes {np.median(seconds[OURS]):.3f} s")
    return encoded


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--categories", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--peer-categories", type=int, default=1000, help="0: leave GLMMEncoder out")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # of how TargetEncoder is to be given its seed
    encoders = {
        OURS: lambda seed: MixedEffectEncoder(random_state=seed),
        "without cross-fitting": lambda seed: WithoutCrossFitting(),
        "TargetEncoder": lambda seed: TargetEncoder(random_state=seed),
    }
    compare(encoders, options.categories, options.repetitions)
    if options.peer_categories:
        from category_encoders import GLMMEncoder

        encoders["GLMMEncoder"] = lambda seed: GLMMEncoder(binomial_target=True)
        encoded = compare(encoders, options.peer_categories, 1)
        correlation = np.corrcoef(encoded["GLMMEncoder"], encoded["without cross-fitting"])[0, 1]
        print(f"correlation of GLMMEncoder with {OURS} without cross-fitting, test rows: {correlation:.5f}")


if __name__ == "__main__":
    main()
