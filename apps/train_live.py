"""Train a small network from nothing and watch its slots form: `python apps/train_live.py [PORT]`."""
from ssl_workbench.hub import shell

if __name__ == '__main__': shell('train')
