"""The explorer: the organism in the browser, as one page without a kernel and without a network."""
