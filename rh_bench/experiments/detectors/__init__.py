"""Detectors compared: do different ideas of a retrieval head name the same heads?"""
