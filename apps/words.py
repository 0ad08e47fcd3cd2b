"""Which pixels a word means, and what each word of a sentence adds: `python apps/words.py [PORT]`."""
from ssl_workbench.app.shell import shell

if __name__ == '__main__': shell('words')
