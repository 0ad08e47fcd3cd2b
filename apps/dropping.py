"""How little of a clip is enough: drop and mask its tokens, see what is left: `python apps/dropping.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('dropping')
