"""Train a small network from nothing and watch its slots form: `python apps/training.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('training')
