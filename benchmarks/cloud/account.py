"""What an executor asks once: who am I, which subnets are there, what has been deployed.

Called by: emulator.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cloud.door import Answer

_XML: Final = "Content-Type: text/xml\r\n"
_META: Final = "<ResponseMetadata><RequestId>bed</RequestId></ResponseMetadata>"
_SUBNETS: Final = "".join(
    f"<item><subnetId>subnet-{letter * 8}</subnetId><vpcId>vpc-11111111</vpcId><state>available</state>"
    f"<availabilityZone>us-east-1{letter}</availabilityZone><defaultForAz>true</defaultForAz>"
    "<mapPublicIpOnLaunch>true</mapPublicIpOnLaunch></item>"
    for letter in "ab"
)
_GROUPS: Final = (
    "<item><groupId>sg-11111111</groupId><groupName>default</groupName><vpcId>vpc-11111111</vpcId>"
    "<ownerId>123456789012</ownerId></item>"
)


def act(service: str, operation: str, asked: Mapping[str, str]) -> Answer:
    """Answer a question of the query protocol."""
    if operation == "GetCallerIdentity":
        said = (
            "<Account>123456789012</Account><Arn>arn:aws:iam::123456789012:user/bench</Arn><UserId>AIDABENCH</UserId>"
        )
        said = f"<{operation}Result>{said}</{operation}Result>{_META}"
        return _answer("https://sts.amazonaws.com/doc/2011-06-15/", operation, said)
    if service == "ec2" and operation in ("DescribeSubnets", "DescribeSecurityGroups"):
        tag, items = ("subnetSet", _SUBNETS) if operation == "DescribeSubnets" else ("securityGroupInfo", _GROUPS)
        space = "http://ec2.amazonaws.com/doc/2016-11-15/"
        return _answer(space, operation, f"<requestId>bed</requestId><{tag}>{items}</{tag}>")
    if service == "cloudformation":
        return _error("ValidationError", f"Stack {asked.get('StackName', '')} does not exist")
    return _error("InvalidAction", f"{service} {operation} is not there")


def _answer(space: str, operation: str, said: str) -> Answer:
    body = f'<{operation}Response xmlns="{space}">{said}</{operation}Response>'
    return Answer("200 OK", body.encode(), _XML)


def _error(code: str, text: str) -> Answer:
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
    )
    return Answer("400 Bad Request", body.encode(), _XML)
