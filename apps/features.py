"""Crops that follow the same thing, dense features as colours, and a readout of classes: `python apps/features.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('features')
