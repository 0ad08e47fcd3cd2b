"""Where every pixel of one frame goes in the next: `python apps/flow.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('flow')
