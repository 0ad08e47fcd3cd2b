"""Networks below each other on one picture, pair or clip: `python apps/comparison.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('comparison')
