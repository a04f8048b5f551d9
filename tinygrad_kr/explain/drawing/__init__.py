"""`tk.draw`: the graph as a circuit."""
