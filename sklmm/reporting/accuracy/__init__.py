"""Accuracy reports: how well classifiers predict rows that come in groups, and for whom."""
