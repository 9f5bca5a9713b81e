"""What `import rh_bench` offers, one job a module. Users import the names from `rh_bench` itself."""
