"""What comes next? Shown a few frames, RIVER draws several futures out of noise: `python apps/river.py [PORT]`."""
from ssl_workbench.hub import shell

if __name__ == '__main__': shell('river')
