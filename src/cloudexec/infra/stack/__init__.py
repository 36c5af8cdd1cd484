"""The stack in the account: what is there, how it is made, changed and removed.

    look.py      what is there           changes.py    what a change set would do     events.py   what happens, and why
    follow.py    has it done, to its end changeset.py  makes one, carries it out      network.py  where tasks may live
    deploy.py    `cloudexec up`          settle.py     what must come before it       wish.py     what it was asked for
    teller.py    what it tells and asks  code.py       the bundle in its bucket       ecsrole.py  the role of ECS itself
    remove.py    `cloudexec down`        inside.py     what is in it, what is alive   holders.py  who holds its policies

    up:    look ─> bundle ─> change set ─> shown, asked ─> executed, followed ─> bundle uploaded ─> change set 2
    down:  look ─> what is alive? ─> shown, asked ─> bucket emptied, strays removed ─> stack deleted, followed

look.py, changes.py, events.py hold pure readers. Nothing is kept on this machine: whoever is interrupted repeats the
command, which looks at what is there and goes on.

Called by: cli/up.py, cli/down.py, settings_file.py, doctor, tests.   Calls: place.py, template, bundle.
"""
