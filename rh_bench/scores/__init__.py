"""From copy events to head scores, their intervals and a run's summary. No model is needed."""
