"""Finished runs come in; out comes what they show: differences, budgets exceeded, trends, verdicts.

Nothing here measures.
"""
