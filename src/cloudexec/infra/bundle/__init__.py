"""The bundle: a zip with cloudexec, cloudpickle and packages, the code of the function and of workers without an image.

    build.py   makes it, of   sources.py   this installation's own, and   packages.py   wheels for Linux
    boot.py    fetches it, in a container          words.py   what both sides call it

Called by: stack, template, cli/up.py, doctor.
"""
