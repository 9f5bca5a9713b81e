"""Numbers, names, colours and places as a reader sees them; whatever draws them lies above."""
