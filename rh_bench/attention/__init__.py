"""Where heads look, and what is done to them: capture, fused kernels, attention mass, ablation."""
