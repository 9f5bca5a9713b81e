"""Faults at scale: the commands are killed, starved and talked over, and must end as if nothing had happened."""
