"""The public API, one job per module. Users import the names from `rh_bench` itself."""
