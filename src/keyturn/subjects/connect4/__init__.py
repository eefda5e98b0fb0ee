"""A subject that learns connect four by playing, small enough to watch it improve in minutes.

Never imports anything of Keyturn at run time: inside the sandbox it is one file and its weights.
"""
