"""The text of C for the steps; it decides nothing."""
