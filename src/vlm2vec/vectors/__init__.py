"""Vectors once they are made: kept under what made them, compared and ranked. Needs no torch."""
