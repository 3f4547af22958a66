"""What the words of a report mean, in a line each, for readers who meet them for the first time."""

import re

TERMS = {
    "estimate": "What the data say a number is, as near as they can.",
    "std. error": "Standard error: how far an estimate would typically be off, were the data collected anew.",
    "interval": "The values that the data are compatible with, at the confidence that is said with it.",
    "p-value": "The probability of data at least as far from no effect as these, if there were none: small ones speak "
    "for an effect.",
    "odds ratio": "What the odds of the event, its probability divided by that of the other outcome, are multiplied "
    "by for one unit more of a feature; 1 is no effect.",
    "hazard ratio": "What the rate at which the event comes about is multiplied by for one unit more of a feature; 1 "
    "is no effect.",
    "random effects": "How groups deviate from the average, taken for normally distributed; their standard deviation "
    "(sd) says how much groups differ, on the scale of the estimates.",
    "ICC": "Intraclass correlation: the share of the variation, of what features leave, that is between groups.",
    "median odds ratio": "The median of the ratio of the odds in two groups drawn at random, the larger to the "
    "smaller; 1 if groups do not differ.",
    "R2 marginal": "The share of the variation that the features explain; R2 conditional: features and groups.",
    "log-likelihood": "How likely the data are under the fitted model, as a logarithm: higher fits better.",
    "deviance": "Minus twice the log-likelihood: lower fits better.",
    "AIC": "Deviance plus a price for each parameter: of several models of the same rows the lowest is preferred. "
    "BIC has another price.",
    "working correlation": "How alike rows of one group are taken to be while a marginal model is fitted.",
    "robust": "Standard errors that hold whatever rows of a group have in common (also: sandwich).",
    "dispersion": "The variance of outcomes over what the model says it is; near 1 as it should be.",
    "QIC": "The AIC of marginal models, for choosing among them: lower is better. QICu is for choosing features, CIC "
    "for choosing the working correlation.",
    "residual": "Of an outcome what the model does not explain.",
}


def terms_in(text):
    """Those of the terms that occur in a text, with their meanings, in the order of `TERMS`."""
    return {term: meaning for term, meaning in TERMS.items() if re.search(rf"\b{re.escape(term)}", text, re.I)}
