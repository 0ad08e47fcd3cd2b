"""How fast this machine is: `python -m benchmarks.speed [NAME…]`, `python -m benchmarks.speed.NAME` for one alone."""
