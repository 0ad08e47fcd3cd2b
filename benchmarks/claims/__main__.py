"""`python -m benchmarks.claims`"""
import sys

from benchmarks.claims.runner import main

if __name__ == '__main__':
    sys.exit(main())
