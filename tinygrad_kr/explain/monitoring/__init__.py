"""`tk.Monitor`: a training that is watched, and its film."""
