"""What a run is on disk: its documents, tables and journal, and whether they are sound."""
