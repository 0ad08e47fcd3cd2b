"""How the bundled weights were made: `python -m benchmarks.weights NAME` trains, scores, writes weights and card."""
