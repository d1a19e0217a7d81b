"""rtbench: which format and runtime to ship an image classifier in, with evidence."""

__version__ = "0.1.0"
