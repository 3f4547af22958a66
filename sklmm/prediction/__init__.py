"""A fitted model and new rows: probabilities, intervals, averages over the population, simulated outcomes."""
