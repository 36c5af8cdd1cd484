"""CloudFormation's query protocol: parameters of a request, XML of an answer, both after botocore's model. Pure.

Called by:  plane.py.   Calls: nothing.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from cloudexec.testing.pocket.server.requests import Answer

NAMESPACE: Final = "http://cloudformation.amazonaws.com/doc/2010-05-15/"


def parameters(body: bytes, shape: Any) -> dict[str, Any]:
    """What a request says, as boto3's arguments were. shape: the operation's input."""
    words = dict(parse_qsl(body.decode(), keep_blank_values=True))
    return dict(_read(words, "", shape) or {})


def _read(words: dict[str, str], prefix: str, shape: Any) -> Any:
    """The value below a prefix; None if there is none."""
    if shape.type_name == "structure":
        start = f"{prefix}." if prefix else ""
        members = {name: _read(words, start + name, member) for name, member in shape.members.items()}
        return {name: value for name, value in members.items() if value is not None} or None
    if shape.type_name == "list":
        if words.get(prefix) == "":
            return []
        found: list[Any] = []
        while (value := _read(words, f"{prefix}.member.{len(found) + 1}", shape.member)) is not None:
            found.append(value)
        return found or None
    text = words.get(prefix)
    if text is None:
        return None
    if shape.type_name == "boolean":
        return text.lower() == "true"
    return int(text) if shape.type_name in ("integer", "long") else text


def answer(operation: str, shape: Any, told: dict[str, Any]) -> Answer:
    """The answer to a request. shape: the operation's output, None if it has none."""
    result = ""
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
        result = f"<{wrapper}>{_members(told, shape)}</{wrapper}>"
    about = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    text = f'<{operation}Response xmlns="{NAMESPACE}">{result}{about}</{operation}Response>'
    return Answer(headers=(("Content-Type", "text/xml"),), body=text.encode())


def _members(value: dict[str, Any], shape: Any) -> str:
    strange = set(value) - set(shape.members)
    if strange:
        raise ValueError(f"{shape.name} has no {strange}")  # a mistake of ours: the client would not see it
    written = (name for name in shape.members if value.get(name) is not None)
    return "".join(f"<{name}>{_xml(value[name], shape.members[name])}</{name}>" for name in written)


def _xml(value: Any, shape: Any) -> str:
    if shape.type_name == "structure":
        return _members(value, shape)
    if shape.type_name == "list":
        return "".join(f"<member>{_xml(each, shape.member)}</member>" for each in value)
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        return instant(value)
    return escape(str(value))


def instant(seconds: float) -> str:
    """A time as AWS writes it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
