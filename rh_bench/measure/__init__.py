"""Measuring a model on a set, and making again what a run says of how it was asked."""
