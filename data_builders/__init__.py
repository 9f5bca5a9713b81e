"""Haystack sets: the texts to hide needles in, the needles, and the builder that writes them down reproducibly."""
