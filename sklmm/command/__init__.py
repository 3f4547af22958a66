"""``python -m sklmm``: reports from tables in files."""
