"""What a recorded program is: the ground of all stages."""
