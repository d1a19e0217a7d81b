"""Measured rows come in; out come their scores, and the answer: which row to ship.

Pure but for reading a baseline's file: the same rows give the same answer.
"""
