"""Crops that follow the same thing, dense features as colours, and a readout of classes: `python apps/poodle.py [PORT]`."""
from ssl_workbench.hub import shell

if __name__ == '__main__': shell('poodle')
