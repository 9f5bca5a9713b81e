"""Loading a model for measuring: found, checked, loaded whole, or refused in one line."""
