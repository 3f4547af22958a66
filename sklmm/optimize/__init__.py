"""Newton and quasi-Newton methods on any log-likelihood, within a trust region, and one verdict on convergence."""
