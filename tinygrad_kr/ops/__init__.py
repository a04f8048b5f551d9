"""Every primitive operation, one record each."""
