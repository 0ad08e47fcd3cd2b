"""Where in your own photo a piece of it comes from: `python apps/locations.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('locations')
