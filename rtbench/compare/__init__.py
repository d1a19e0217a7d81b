"""Options come in; out comes a run: models prepared, rows planned, each row timed and evaluated next to the others.

Nothing here prints or renders. The parent process imports no runtime: workers do.
"""
