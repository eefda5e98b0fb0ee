"""Govern a loop that others wrote: its door, its warm sandboxes, and its one improve step.

It never runs a program outside a sandbox, and never lets a client wait for another one.
"""
