"""Statistics, independent of heads: bootstrap intervals, paired tests, ranks, similarity, convergence. NumPy only."""
