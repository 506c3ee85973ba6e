"""Measuring models on benchmarks: score files, averages and reports."""
