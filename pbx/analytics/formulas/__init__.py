"""The formulas behind every figure: pure functions, columns in, numbers out."""
