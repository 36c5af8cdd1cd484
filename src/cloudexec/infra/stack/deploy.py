"""Make the stack, or change it to what is wished: `cloudexec up`.

Called by: cli/up.py.   Calls: everything beside it, bundle, template.

    look ─> settle.py (wait, roll on, remove the broken) ─> bundle ─> change set ─> show, ask ─> execute, follow
                                                               a new stack: upload ─> change set 2 ─> execute, follow

A new stack takes two steps: its function needs its code in a bucket that the same stack makes. After an interruption
the second step is simply what is still to be changed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloudexec.errors import AwsError, SettingsError
from cloudexec.infra.bundle.build import Bundle, Order, check_for_lambda, make_bundle
from cloudexec.infra.names import bucket_name
from cloudexec.infra.place import Place
from cloudexec.infra.stack import changes as reading
from cloudexec.infra.stack import code, ecsrole
from cloudexec.infra.stack.changeset import ChangeSet, drop, execute, make_change_set
from cloudexec.infra.stack.look import StackState, check_name, look
from cloudexec.infra.stack.network import network_parameters, read_network
from cloudexec.infra.stack.settle import Refused, failure, settled
from cloudexec.infra.stack.teller import Plan, Teller
from cloudexec.infra.stack.wish import (
    THIS_PYTHON,
    Wish,
    check_parameters,
    needs_bundle,
    needs_bundle_for_function,
    options_of,
    order_of,
    parameters_of,
    values_of,
)
from cloudexec.infra.template.build import template as make_template

_DONE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
_CLUSTER: Final = "AWS::ECS::Cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended. state: of the stack as it is now. is_refused: somebody said no."""

    state: StackState
    before: StackState
    has_changed: bool = False
    is_refused: bool = False
    is_dry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """What the code is to be. bundle: None if what is in the bucket will do, or images have it all."""

    key: str = ""
    order: Order | None = None
    bundle: Bundle | None = None
    contents: Mapping[str, str] | None = None
    n_bytes: int = 0


def up(place: Place, wish: Wish, teller: Teller, *, is_dry: bool = False) -> Outcome:
    """Make or change the stack. Errors: SettingsError, AwsError and its kin."""
    check_name(place.stack)
    state = look(place)
    _check_ours(place, state)
    try:
        state = settled(place, state, teller, is_dry=is_dry)
    except Refused:
        return Outcome(state=state, before=state, is_refused=True)
    with tempfile.TemporaryDirectory(prefix="cloudexec-") as folder:
        try:
            return _Deployment(place, wish, teller, state, Path(folder), is_dry).run()
        except AwsError as error:
            if not _is_overtaken(error):
                raise
            what = f"somebody else has changed stack {place.stack!r} meanwhile: {error.what}"
            remedy = "repeat `cloudexec up`: it waits for them, and does what is left to do"
            raise AwsError(what, error.code, remedy=remedy) from error


def _is_overtaken(error: AwsError) -> bool:
    """Whether a second `up`, or a `down`, was faster: a change set lives until the stack changes."""
    is_busy = error.code == "ValidationError" and "_IN_PROGRESS state" in error.what
    return is_busy or error.code in ("ChangeSetNotFound", "InvalidChangeSetStatus")


def _check_ours(place: Place, state: StackState) -> None:
    """Errors: SettingsError for a stack of that name that somebody else has made."""
    if not state.is_ours:
        what = f"stack {state.name!r} in account {place.account_id}, {place.region}, was not made by `cloudexec up`"
        raise SettingsError(what, remedy="use another name with --stack; it is left as it is")
    if not state.is_absent and not state.is_broken and not state.is_busy and state.options is None:
        what = f"stack {state.name!r} carries the tag of cloudexec, and its template is another one"
        raise SettingsError(what, remedy="use another name with --stack; it is left as it is")


class _Deployment:
    """One `up` of a stack that can be changed, or is not there."""

    def __init__(self, place: Place, wish: Wish, teller: Teller, state: StackState, folder: Path, is_dry: bool) -> None:
        self._place, self._wish, self._teller = place, wish, teller
        self._before = self._state = state
        self._folder = folder
        self._is_dry = is_dry
        self._is_new = state.is_absent
        self._options = options_of(wish, state.options)
        self._template: dict[str, Any] = make_template(self._options)
        check_parameters(wish.parameters, self._template)
        self._own = dict(wish.parameters)

    def run(self) -> Outcome:
        """See `up`."""
        self._set_parameters()
        if self._is_new:
            self._check_bucket()
        code_now = self._code()
        if code_now.bundle is not None:
            self._own["BundleKey"] = "" if self._is_new else code_now.key
        change_set = self._change_set()
        if change_set.changes:
            plan = self._plan(change_set, code_now)
            self._teller.show(plan)
            if self._is_dry or not self._agreed(change_set, plan):
                drop(self._place, change_set.id, is_new=self._is_new)
                return self._outcome(is_refused=not self._is_dry)
        if self._is_dry:
            return self._outcome()
        self._prepare(change_set, code_now)
        if change_set.changes:
            self._execute(change_set, "could not be made" if self._is_new else "could not be changed")
        if self._is_new and code_now.bundle is not None:
            self._second_step(code_now)
        return self._outcome(has_changed=bool(change_set.changes))

    def _prepare(self, change_set: ChangeSet, code_now: _Code) -> None:
        """What must be there before CloudFormation begins. An interruption leaves nothing, as at the question."""
        try:
            if not self._is_new:
                self._upload(code_now)
            if any((change.action, change.kind) == ("Add", _CLUSTER) for change in change_set.changes):
                ecsrole.ensure(self._place, self._teller.say)
        except BaseException:
            if change_set.changes:
                drop(self._place, change_set.id, is_new=self._is_new)
            raise

    def _second_step(self, code_now: _Code) -> None:
        self._upload(code_now)
        self._own = {"BundleKey": code_now.key}
        self._is_new = False
        change_set = self._change_set()
        if change_set.changes:
            self._execute(change_set, "could not get its code")

    # --- what is wished ---

    def _set_parameters(self) -> None:
        place, wish, state = self._place, self._wish, self._state
        if wish.arch:
            self._own["Architecture"] = wish.arch
        if self._is_new and "BucketName" not in self._own:
            self._own["BucketName"] = bucket_name(place.stack, place.account_id, place.region)
        has_subnets = bool(state.parameters.get("Subnets")) and not self._is_new  # an empty stack hands nothing on
        lacks = "Subnets" in self._template["Parameters"] and not has_subnets
        if self._options.ecs and (wish.network or lacks):
            self._own |= network_parameters(place, wish.network or read_network("default"))
        if not self._is_new and self._options.python != THIS_PYTHON and not wish.python:
            self._teller.say(
                f"The stack is for Python {self._options.python}, and this is {THIS_PYTHON}: executors need the same. "
                f"`cloudexec up --python {THIS_PYTHON}` changes it."
            )
        elif wish.python and wish.python != THIS_PYTHON:
            self._teller.say(f"For Python {wish.python}, and this is {THIS_PYTHON}: only executors of that use it.")

    def _check_bucket(self) -> None:
        """Errors: SettingsError where this account has such a bucket; one of another account CloudFormation tells."""
        name = self._own["BucketName"]
        try:
            request = {"Bucket": name, "ExpectedBucketOwner": self._place.account_id}
            self._place.ask("s3", "head_bucket", request)
        except AwsError:
            return
        what = f"this account has a bucket {name!r} already, and a stack makes its own"
        remedy = (
            f"`aws s3 rb s3://{name} --force` removes it with everything in it, if it is left from an earlier stack "
            "and nobody needs it; or name another one: --parameters BucketName=NAME"
        )
        raise SettingsError(what, remedy=remedy)

    def _values(self) -> dict[str, str]:
        chosen = parameters_of(self._template, self._own, self._state)
        return values_of(self._template, chosen, self._state)

    def _code(self) -> _Code:
        """The code as it should be; made here only if what is in the bucket is not that."""
        values = self._values()
        if not needs_bundle(self._options, values):
            return _Code()
        bucket = self._state.outputs.get("Bucket", "")
        record = code.fetch_record(self._place, bucket) if bucket else None
        order = order_of(self._wish, self._options, record, values["Architecture"])
        if record is not None and self._still_holds(record, order):
            n_bytes = code.size_of(self._place, bucket, record.key)
            if n_bytes is not None:
                return _Code(key=record.key, order=order, contents=record.contents, n_bytes=n_bytes)
        if order.packages or order.requirements:
            self._teller.say(f"Fetching packages for Python {order.python} on Linux {order.arch} …")
        bundle = make_bundle(
            order.packages,
            python=order.python,
            arch=order.arch,
            requirements=order.requirements,
            folder=self._folder,
        )
        if needs_bundle_for_function(self._options, values):
            check_for_lambda(bundle)
        key = code.key_of(bundle)
        return _Code(key=key, order=order, bundle=bundle, contents=bundle.contents, n_bytes=bundle.size_bytes)

    def _still_holds(self, record: code.CodeRecord, order: Order) -> bool:
        is_in_use = record.key == self._state.bundle_key
        return is_in_use and not self._wish.is_rebuilt and record.fingerprint == order.fingerprint

    # --- what is done ---

    def _change_set(self) -> ChangeSet:
        chosen = parameters_of(self._template, self._own, self._state)
        return make_change_set(self._place, self._template, chosen, is_new=self._is_new, tags=self._state.tags)

    def _plan(self, change_set: ChangeSet, code_now: _Code) -> Plan:
        changes = change_set.changes
        has_later = self._is_new and code_now.bundle is not None
        return Plan(
            stack=self._place.stack,
            is_new=self._is_new,
            changes=changes,
            later=reading.later(self._template, changes) if has_later else (),
            at_rest=reading.costs_at_rest(self._template, code_now.n_bytes),
            contents=code_now.contents,
        )

    def _agreed(self, change_set: ChangeSet, plan: Plan) -> bool:
        try:
            return self._teller.agrees(self._question(plan))
        except BaseException:  # Ctrl-C is a no, and leaves no empty stack behind either
            drop(self._place, change_set.id, is_new=self._is_new)
            raise

    def _question(self, plan: Plan) -> str:
        where = f"in account {self._place.account_id}, {self._place.region}"
        if self._is_new:
            return f"Make stack {plan.stack!r} {where}?"
        losses = [change for change in plan.changes if change.is_loss]
        loud = f" {len(losses)} of its resources will be REMOVED or REPLACED, see above." if losses else ""
        return f"Change stack {plan.stack!r} {where}?{loud}"

    def _upload(self, code_now: _Code) -> None:
        if code_now.bundle is None or code_now.order is None:
            return
        bucket = self._state.outputs["Bucket"]
        self._teller.say(f"Uploading {code_now.n_bytes / 1024**2:.1f} MB of code to s3://{bucket}/{code_now.key}")
        code.upload(self._place, bucket, code_now.bundle)
        code.write_record(self._place, bucket, code.record_of(code_now.order, code_now.bundle))

    def _execute(self, change_set: ChangeSet, what: str) -> None:
        state, events = execute(self._place, change_set, self._teller.event)
        if state.status not in _DONE:
            raise failure(state, events, what)
        self._state = state

    def _outcome(self, *, has_changed: bool = False, is_refused: bool = False) -> Outcome:
        return Outcome(
            state=self._state, before=self._before, has_changed=has_changed, is_refused=is_refused, is_dry=self._is_dry
        )
