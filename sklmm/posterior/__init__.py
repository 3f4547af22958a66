"""The posterior of a mixed model's parameters, by importance sampling around its mode."""
