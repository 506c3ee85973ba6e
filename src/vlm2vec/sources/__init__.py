"""Training rows: where the sources of a run lie, and how their rows become pairs."""
