"""Question answering with heads removed: chain of thought and extractive QA."""
