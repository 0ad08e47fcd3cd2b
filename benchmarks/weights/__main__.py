"""The command line of benchmarks.weights."""
from benchmarks.weights.machine import main

main()
