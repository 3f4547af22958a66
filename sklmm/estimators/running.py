"""How a fit runs and what it tells meanwhile: threads, scikit-learn's callbacks, lines on the screen."""

import contextlib
import functools

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9 has no callbacks

    class CallbackSupportMixin:
        """Stands in for scikit-learn's class of the same name."""

        def _init_callback_context(self, **kwargs):
            return None

    def with_callbacks(method):
        # As deep in the stack as scikit-learn's, so that warnings point at the same line.
        @functools.wraps(method)
        def called(estimator, *args, **kwargs):
            return method(estimator, *args, **kwargs)

        return called


class Progress:
    """What a fit tells meanwhile: scikit-learn's callbacks that it begins and ends, them and the screen of its outer
    iterations.

    Parameters
    ----------
    estimator : estimator
    X, y, metadata
        Arguments of `fit`, for callbacks; metadata is a dict, whose values may be None.
    objective : str
        The key of the report's rows that is shown.
    """

    def __init__(self, estimator, X, y, metadata, objective):
        self.estimator, self.objective = estimator, objective
        self._context = estimator._init_callback_context(max_subtasks=None)
        given = {key: value for key, value in metadata.items() if value is not None} or None
        self._task = {"estimator": estimator, "X": X, "y": y, "metadata": given}
        if self._context is not None:
            self._context.call_on_fit_task_begin(**self._task)
        self._has_listeners = self._context is not None and bool(getattr(estimator, "_skl_callbacks", None))

    @contextlib.contextmanager
    def iterations(self):
        """For the fit itself: what to call with each row of the report, or None where nobody listens."""
        self._begin()
        try:
            yield self if self._has_listeners or self.estimator.verbose else None
        finally:
            self._end()  # the iteration that was announced and never came

    def __call__(self, row):
        if self.estimator.verbose:
            print(
                f"[{type(self.estimator).__name__}] iteration {row['iteration']}: {row['rows']} rows, "
                f"{self.objective.replace('_', '-')} {row[self.objective]:.6f}, decrement {row['decrement']:.2e}, "
                f"{row['seconds']:.2f} s",
                flush=True,
            )
        self._end()
        self._begin()

    def finish(self):
        """The fit is done, and the estimator holds it."""
        if self._context is not None:
            self._context.call_on_fit_task_end(**self._task, reconstruction_attributes={})

    def _begin(self):
        if self._has_listeners:
            self._iteration = self._context.subcontext(task_name="outer iteration")
            self._iteration.call_on_fit_task_begin(estimator=self.estimator)

    def _end(self):
        if self._has_listeners:
            self._iteration.call_on_fit_task_end(estimator=self.estimator)
