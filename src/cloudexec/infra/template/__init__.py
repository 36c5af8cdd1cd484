"""The stack's template, as a dictionary: what is in it, and why.

    options.py    what may be chosen        build.py     puts the parts together
    storage.py  ecs.py  awslambda.py  network.py  images.py     the parts

Called by: stack, cli/up.py, doctor, tests.   Calls: permissions, names; pure.
"""
