"""The whole workbench: `python apps/hub.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell()
