"""A program rewritten: simpler, and in ops that C can compute."""
