"""Inference from stored estimates and their covariance, never from the training data.

Pure functions of names, coefficients and a covariance matrix; the estimators' methods call them. `profile` and
`bootstrap` alone fit again: they get a likelihood, or rows.
"""
