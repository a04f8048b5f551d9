"""Explanations: imported when used."""
