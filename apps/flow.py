"""Where does every pixel of one frame go in the next? Of your own pictures, clip or webcam: `python apps/flow.py [PORT]`."""
from ssl_workbench.hub import shell

if __name__ == '__main__': shell('flow')
