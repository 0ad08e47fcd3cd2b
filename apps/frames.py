"""What comes next: from a few frames, RIVER draws several futures out of noise: `python apps/frames.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('frames')
