"""Which patches of a picture are in a wrong place? Find them, then see what a network finds: `python apps/misplaced.py [PORT]`."""
from ssl_workbench.hub import shell

if __name__ == '__main__': shell('misplaced')
