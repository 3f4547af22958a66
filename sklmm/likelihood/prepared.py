"""What every engine begins with: the rows, the units of its parameters, and the columns that are held at 0."""

from sklmm._kernels._grouping import gather_rows
from sklmm.design.aliasing import aliased_columns
from sklmm.design.units import Units


class PreparedRows:
    """Base of the engines: the members of `sklmm.likelihood.engine.Engine` that are no work.

    Its `offset` is that of the rows as they were given, as it stands beside internal parameters (`Units.centred`).

    Parameters
    ----------
    observations : Observations
    structure : Structure
    n_threads : int
    units : Units or None
        Those of an earlier fit, or of other rows, to use here; None: those that suit these rows.
    """

    strides, n_quadrature = (1,), 1
    has_clusters = costly_curvature = bounded = False
    most = 0.0

    def __init__(self, observations, structure, n_threads, units):
        self.observations = observations = observations.aligned()
        self.structure, self.n_threads = structure, n_threads
        self.units = units = Units.of(observations, structure) if units is None else units
        self.n_rows, self.n_fixed, self.n_params = observations.y.size, units.n_fixed, units.n_params
        self.covariance, p = units.covariance, units.p
        self.aliased = aliased_columns(
            observations.X, units.center[:p], units.inv_scale[:p], observations.weights, units.fit_intercept
        )
        self.aliased[p - structure.slopes_only :] = True
        self.offset = units.centred(observations.offset, self.n_rows)
        self.accumulator = 2 * 8 * self.n_params * (self.n_params + 8)  # bytes that sums over rows take

    def value(self, x):
        return self.evaluate(x)[0]

    def sorted_rows(self, order):
        """X, y and weights in this order; as they are where there is none."""
        X, y, weights = self.observations.X, self.observations.y, self.observations.weights
        if order is None:
            return X, y, weights
        return gather_rows(X, order), y[order], None if weights is None else weights[order]

    def sorted_offset(self, order):
        """The centred offset in this order, or None."""
        return self.offset if self.offset is None or order is None else self.offset[order]
