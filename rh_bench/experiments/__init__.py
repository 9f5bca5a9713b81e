"""Experiments: what heads do, beside which they are. Each is an artifact that recomputes without a model."""
