"""How the bundled weights were made: `python -m benchmarks.weights NAME` trains, scores, and writes weights and card."""
