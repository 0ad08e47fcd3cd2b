"""The site: `make docs` makes its pages from the notebooks, the cards, the claims and the library, and builds it."""
