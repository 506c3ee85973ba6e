"""Known data sets: from their published columns to items, with the published strings."""
