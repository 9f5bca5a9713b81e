"""How a model is asked: chat templates, thinking, and what ends an answer."""
