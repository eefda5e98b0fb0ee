"""Where the static files of a log lie: a folder, or a bucket of an S3-compatible store.

Never knows what the files say: what is written once stays as it was written, and the checkpoint comes last.
"""
