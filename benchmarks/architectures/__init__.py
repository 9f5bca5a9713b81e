"""Every causal-LM type of the installed transformers, measured and compared with transformers itself."""
