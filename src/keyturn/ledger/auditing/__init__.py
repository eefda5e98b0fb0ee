"""What an auditor does with a log: walk it and decide it again, mirror it from static files, remember what was illegal.

Never cosigns, never repairs, and never believes what a log says about itself.
"""
