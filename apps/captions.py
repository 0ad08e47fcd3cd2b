"""Two captions of one picture, of which one is false: does the score fall? `python apps/captions.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('captions')
