"""This machine: what it can give, what it lacks, and the check that its sandboxes hold.

Never changes anything here: a remedy is a text for people.
"""
