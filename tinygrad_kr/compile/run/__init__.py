"""A program made callable."""
