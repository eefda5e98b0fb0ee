"""A trial drawn: while it runs, and afterwards as a picture.

It never decides: what it draws is computed again from the values that are in the log.
"""
