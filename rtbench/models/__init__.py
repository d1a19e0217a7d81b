"""A name or a file of the user's comes in; out comes the network, and the record of what it is.

Whatever imports torch here runs in a worker process, never in the parent.
"""
