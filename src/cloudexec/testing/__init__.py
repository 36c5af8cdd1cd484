"""What cloudexec is tested with, for users' tests too.

Files: simulation/  drives the real ledger against a random cloud, in virtual time
"""
