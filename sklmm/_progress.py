"""How a fit runs and what it tells meanwhile: threads, scikit-learn's callbacks, lines on the screen."""

import functools
import os

import joblib

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


FEW_ROWS = 20_000  # take less time on one thread than threads take to meet


def effective_threads(n_threads, n_rows=FEW_ROWS):
    """The number of threads to use: all CPUs this process may use, or what OMP_NUM_THREADS says; one for few rows."""
    if n_threads is not None:
        return int(n_threads)
    if n_rows < FEW_ROWS:
        return 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else joblib.cpu_count()


class Progress:
    """Passes the engine's report of an outer iteration on: to scikit-learn's callbacks, and to the screen."""

    def __init__(self, estimator, context, objective="log_likelihood"):
        self.estimator, self.objective = estimator, objective
        self.context = context if getattr(estimator, "_skl_callbacks", None) else None
        self._iteration = self._begin()

    @property
    def wanted(self):
        """Whether anybody listens."""
        return self.context is not None or self.estimator.verbose

    def __call__(self, row):
        if self.estimator.verbose:
            print(
                f"[{type(self.estimator).__name__}] iteration {row['iteration']}: {row['rows']} rows, "
                f"{self.objective.replace('_', '-')} {row[self.objective]:.6f}, decrement {row['decrement']:.2e}, "
                f"{row['seconds']:.2f} s",
                flush=True,
            )
        if self.context is not None:
            self._end()
            self._iteration = self._begin()

    def close(self):
        """End the iteration that was announced and never came."""
        if self.context is not None:
            self._end()

    def _begin(self):
        if self.context is None:
            return None
        return self.context.subcontext(task_name="outer iteration").call_on_fit_task_begin(
            estimator=self.estimator
        )

    def _end(self):
        self._iteration.call_on_fit_task_end(estimator=self.estimator)
