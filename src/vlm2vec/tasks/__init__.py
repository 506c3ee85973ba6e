"""Benchmark rows: from the published columns of known data sets to items with the published strings. Never fetches."""
