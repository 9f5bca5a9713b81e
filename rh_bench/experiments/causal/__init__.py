"""Causal: whether a model fails to retrieve without its retrieval heads."""
