"""Which patches of a picture are in a wrong place? `python apps/positions.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('positions')
