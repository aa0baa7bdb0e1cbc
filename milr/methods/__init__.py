"""Methods: ask/tell (`base`), MILR, best-of-n, and the controls."""
