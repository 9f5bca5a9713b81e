"""Statistics that know nothing of heads: bootstrap intervals, paired tests, similarity, convergence. NumPy only."""
