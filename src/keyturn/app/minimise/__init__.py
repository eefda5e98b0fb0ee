"""The example for OpenEvolve as a demo and a bench play it, ungoverned and governed.

It never imports the loop or its adapter: each run is a process of its own.
"""
