"""Submissions to a results repository: made, reviewed, judged once, collected, published; and attested runs."""
