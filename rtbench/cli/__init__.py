"""The user's words come in; one call of `rtbench.api`, and what it gave is printed.

Only this folder prints or exits. Everything heavy is imported inside the commands, so that start-up is instant.
"""
