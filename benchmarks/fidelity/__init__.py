"""Our methods beside public code on shared weights and inputs: `python -m benchmarks.fidelity.NAME --public PATH`."""
