"""Records and findings come in; out come strings and pages.

Nothing here prints, writes a file or computes a figure that `result.json` should have.
"""
