"""Every causal-LM type of the installed transformers, measured and held against transformers itself."""
