"""Dynamic: in which contexts a head is active, and on which part of the answer."""
