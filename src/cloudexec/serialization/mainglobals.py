"""What an initializer set in `__main__` is seen by the functions that run after it.

Called by: pickling.py (client), loading.py and worker/slot (worker).
Why:       cloudpickle gives each unpickled function a namespace of its own. A script's

               def init(): global model; model = load()
               def work(x): return model.predict(x)

           works with ProcessPoolExecutor and must work here. So a function from `__main__` takes its namespace
           from `fresh_globals`; the slot notes the names that the initializer bound, and binds them again in
           every namespace that is born later, after the client's own values have been put there.
"""

from __future__ import annotations

from typing import Any, Final

_IDENTITY: Final = ("__package__", "__name__", "__path__", "__file__")
_born: list[dict[str, Any]] = []


class MainGlobals(dict[str, Any]):
    """Stands for `__main__`'s namespace in a pickle; unpickles as a fresh one."""

    @classmethod
    def of(cls, namespace: dict[str, Any]) -> MainGlobals:
        """The stand-in for `namespace`; never empty, or cloudpickle would fill it."""
        return cls({"__name__": "__main__"} | {key: namespace[key] for key in _IDENTITY if key in namespace})

    def __reduce__(self) -> tuple[Any, ...]:
        return fresh_globals, (dict(self),)


def fresh_globals(identity: dict[str, Any]) -> dict[str, Any]:
    """A new namespace, noted as born."""
    _born.append(identity)
    return identity


def take_born() -> list[dict[str, Any]]:
    """The namespaces born since the last time."""
    born = _born.copy()
    _born.clear()
    return born
