"""A subject that learns connect four by playing, small enough to watch it improve in minutes.

`subject.py` never imports Keyturn: inside the sandbox it is one file and its weights.
"""
