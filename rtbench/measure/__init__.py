"""Sessions come in; out come samples: latencies, predictions, and what the machine did meanwhile.

The only clock of the package is here. Nothing here chooses what is measured, or keeps it.
"""
