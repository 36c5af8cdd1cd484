"""From callables, arguments, results and exceptions to parts that travel, and back.

Called by: executors (pack calls), worker.slot (unpack calls, pack results), engine (unpack outcomes).
Files:     pickling.py    plain pickle where that is right, cloudpickle where it is needed
           stability.py   may a function's pickle, or its unpickled copy, be used again?
           functions.py   each function is pickled once, as long as it has not changed
           modules.py     which modules are the user's own, and what their sources import
           mentions.py    which modules a pickle, or code inside it, will import
           bundles.py     a local module as one zip file
           shipping.py    which local modules travel with a call, and in which version
           explaining.py  what would travel with a call, for people to read
           blobs.py       big buffers: written once under their hash, kept while calls need them
           packer.py      the client's side, all of it together
           loading.py     parts back to objects; each load gives objects of its own
           failures.py    exceptions, with their remote traceback
           mainglobals.py what an initializer set in `__main__` is seen by later functions
"""
