"""The run directory: samples and records come in as they are made, and are read back from it.

Nothing here measures, scores or renders.
"""
