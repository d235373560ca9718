"""The figures people run a phone system by: formulas, pure, on columns in and numbers out."""
