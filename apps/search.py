"""A gallery that is searched by a sentence in five languages: `python apps/search.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('search')
