"""Hold all that runs sealed still, let people look, and let it go on by the governor's word alone.

Never claims that something is held which was not seen to be, and never lets anything go on past its bound.
"""
