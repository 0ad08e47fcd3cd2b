"""A long video as a row of clips: what SCALE's summary reads, and its nearest: `python apps/timeline.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('timeline')
