"""From the hub to the data root: what a task needs, what of it is missing, and how it gets there."""
