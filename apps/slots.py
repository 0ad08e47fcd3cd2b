"""Slots of your own photo or clip, and what else a prototype wins: `python apps/slots.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('slots')
