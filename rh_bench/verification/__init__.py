"""How far a run or an experiment can be believed: valid, recomputed, measured again."""
