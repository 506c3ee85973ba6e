"""Training data: rows, mixing and batches."""
