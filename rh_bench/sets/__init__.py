"""Haystack sets: reading one, grids of lengths and depths, samples as token ids."""
