"""What an auditor gets: a log in one file, and the means to decide it again on any machine.

Never asks for a project, a key or a network to decide again, and never imports what one system alone has.
"""
