"""Runs over rows: blocks of clusters and samples of them, tables by row or cluster, threads."""
