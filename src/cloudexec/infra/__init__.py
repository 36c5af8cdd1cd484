"""What a run needs in an account, and what people ask about it: the stack, rights, images, runs, a doctor.

Called by: cli.   Calls: backends (clients, configuration), observe, transport.   docs/decisions/0009 has the reasons.
"""
