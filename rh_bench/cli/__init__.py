"""The command `rh-bench`: a thin layer over functions that can be imported."""
