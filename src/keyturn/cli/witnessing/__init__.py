"""The commands of whoever runs a witness of somebody's log: made, told which logs to cosign, shown, served.

Never speaks for a log: a witness needs no project, and a project's operator should not run one of his own log.
"""
