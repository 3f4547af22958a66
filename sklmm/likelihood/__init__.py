"""Mixed models: parameters -> log-likelihood, gradient, Hessian; conditional modes."""
