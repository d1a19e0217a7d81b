"""Where images are, and what their labels are; out come decoded crops, and inputs made of them.

Nothing here knows a network: what an input must look like comes in as a `Preprocessing`.
"""
