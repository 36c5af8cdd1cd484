"""Requests compared with the service models that ship with botocore: names, types, lengths, required members."""

from functools import cache

import botocore.session
from botocore import xform_name
from botocore.validate import ParamValidator


@cache
def _operations(service):
    model = botocore.session.Session().get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


def complaints(service, operation, request):
    """What botocore would refuse about a request; "" if nothing."""
    shape = _operations(service)[operation].input_shape
    return ParamValidator().validate(request, shape).generate_report()


def enumerated(service, operation, *path):
    """The values that a member may have; it is reached through structures and lists."""
    shape = _operations(service)[operation].input_shape
    for name in path:
        shape = shape.member if shape.type_name == "list" else shape
        shape = shape.members[name]
    return set(shape.enum)
