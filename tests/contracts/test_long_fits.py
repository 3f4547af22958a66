"""Fits that take long can be watched, and stopped."""

import numpy as np
import pytest
from contracts.by_hand import model_and_table

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


class Recorder:
    """A callback that writes down what it is told."""

    def __init__(self, fail_after=None):
        self.events = []
        self.fail_after = fail_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        if context.parent is None:
            self.shape, self.metadata = X.shape, metadata
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self.events.append(f"end {context.task_name}")
        if self.fail_after is not None and self.events.count("end outer iteration") > self.fail_after:
            raise RuntimeError("stopped by the user")


def test_callbacks_see_every_iteration(entry, data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    recorder, weights = Recorder(), np.ones(len(y))
    times = {name: value for name, value in entry.given(frame).items() if name != "groups"}
    model = entry.estimator(group_features="g", **entry.all_used).set_callbacks(recorder)
    model.fit(frame[["a", "g", "b"]], y, sample_weight=weights, **times)
    assert recorder.events[:3] == ["setup", "begin fit", "begin outer iteration"]
    assert recorder.events[-2:] == ["end fit", "teardown"]
    # One iteration is announced that, on convergence, never comes.
    assert recorder.events.count("end outer iteration") == len(model.fit_report_.history) + 1
    assert recorder.events.count("begin outer iteration") == recorder.events.count("end outer iteration")
    assert recorder.shape == (len(y), 3)
    assert recorder.metadata["sample_weight"] is weights
    assert recorder.metadata.keys() == {"sample_weight", *times}
    assert all(recorder.metadata[name] is not None for name in times)


def test_callback_that_raises_leaves_the_earlier_fit(entry, data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    model, X = model_and_table(entry, frame)
    model.fit(X, y)
    before = entry.predictions(model, X)
    recorder = Recorder(fail_after=0)
    model.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="stopped by the user"):
        model.fit(X, 1 - y)
    assert recorder.events[-1] == "teardown"
    np.testing.assert_array_equal(entry.predictions(model, X), before)


def test_verbose_prints_a_line_an_iteration(entry, data, capsys):
    frame, y = data
    model, X = model_and_table(entry, frame)
    model.set_params(verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.fit_report_.history)
    assert all(line.startswith(f"[{entry}] iteration") for line in lines)
    words, attribute = entry.objective
    assert f"{words} {getattr(model, attribute):.4f}"[:-1] in lines[-1]
    model.set_params(verbose=0).fit(X, y)
    assert capsys.readouterr().out == ""
