"""A kind of experiment that another package adds: whether a coin is fair. Installed by `other_package.py`."""
