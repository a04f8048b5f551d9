"""`tk.diagnose`: why a net does not learn."""
