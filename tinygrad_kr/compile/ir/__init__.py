"""Programs: their instructions, inputs and outputs; what every stage knows."""
