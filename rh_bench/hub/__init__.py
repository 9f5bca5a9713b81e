"""The Hugging Face Hub: reading, writing, pull requests, jobs. Only here is huggingface_hub imported."""
