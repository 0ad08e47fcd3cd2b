"""Where a network looks and what it finds alike: `python apps/attention.py [PORT] [--online]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('attention')
