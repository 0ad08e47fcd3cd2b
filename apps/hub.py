"""The whole workbench: `python apps/hub.py [PORT]`."""
import sys

from ssl_workbench.hub import launch

if __name__ == '__main__': launch(int(sys.argv[1]) if len(sys.argv) > 1 else None)
