"""The command line of benchmarks.weights."""
from benchmarks.weights.recipes import main

if __name__ == '__main__': main()
