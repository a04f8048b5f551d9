"""The steps of a program, and where in memory each array is."""
