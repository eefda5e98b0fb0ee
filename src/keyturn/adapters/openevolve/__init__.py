"""OpenEvolve, governed: its programs run sealed, and what enters its population was admitted.

Never patches the package: it goes in through hooks that OpenEvolve offers. What is asked for is loaded then.
"""
