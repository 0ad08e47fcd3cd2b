"""Where in your own photo does a piece of it come from? `python apps/locate.py [PORT]`."""
from ssl_workbench.hub import shell

if __name__ == '__main__': shell('locate')
