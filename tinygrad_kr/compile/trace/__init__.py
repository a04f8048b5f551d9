"""A function run once, and the program that it writes."""
