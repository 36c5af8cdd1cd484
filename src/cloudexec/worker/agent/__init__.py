"""The pulling worker's agent: takes batches from a queue, feeds slots, sends reports (docs/decisions/0006).

Called by: worker/__main__.py, for `python -m cloudexec.worker --pull`.   Calls: worker/host, transport, wire.mail.

            work queue --receiver--> take --> books --> host --> slots        (couriers: one thread each, below)
            out queue  <--sender---- reporter <------- facts <-- host
            control    --watcher---> stops, leave, the client's age

Files:      main.py      from the environment to a running agent, and the exit codes
            agent.py     the loop: what comes from the queue, the client's orders, the clock; how it ends
            slots.py     hands calls to slots, tells what happens in them
            post.py      sends reports, deletes, extensions, and calls that go back
            books.py     pure: which calls the worker has, and who shall run them
            reporter.py  pure: what is to be told, cut into messages
            control.py   pure: what the control object says, and whether the client lives
            leaving.py   pure: calls that go back into the queue, as new messages
            couriers.py  threads that carry requests to the services, again and again until they are answered
            place.py     where this process runs: ids and facts; its log
"""
