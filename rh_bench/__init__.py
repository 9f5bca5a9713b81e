"""rh_bench: measure retrieval heads in any Hugging Face causal language model, reproducibly."""

__version__ = "0.1.0"
