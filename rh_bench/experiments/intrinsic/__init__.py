"""Intrinsic: whether two models have the same retrieval heads."""
