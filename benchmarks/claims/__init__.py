"""What the papers say, run again: `python -m benchmarks.claims METHOD` (see nbs/31_claims.ipynb)."""
