"""Dense features of a clip as colours, and classes read off them: `python apps/features.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('features')
