"""The formulas of all figures, as pure functions: columns in, numbers out."""
