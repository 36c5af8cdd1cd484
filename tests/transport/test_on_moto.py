"""The specification of S3 and SQS, on moto's server, with every client."""

import pytest

from tests.specs.aws_spec import VARIANTS, S3Spec, SqsSpec, opened


@pytest.fixture(scope="module", params=VARIANTS)
def call(request, moto_account):
    with opened(request.param, moto_account) as call:
        yield call


class TestS3OnMoto(S3Spec):
    """See S3Spec."""


class TestSqsOnMoto(SqsSpec):
    """See SqsSpec."""
