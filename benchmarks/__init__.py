"""Speed and memory: one command each, both engines in one run on the same samples."""
