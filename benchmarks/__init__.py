"""Commands that measure: speed, claims. Results are JSON files in `results`."""
