"""Dates and characters, against the standard library's slower readers of them."""

import datetime
import email.utils
import xml.etree.ElementTree as ElementTree
from urllib.parse import quote_plus
from xml.sax.saxutils import escape as sax_escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudexec.transport import encoding
from cloudexec.transport.s3xml import Listed, complete_body, delete_body, read_deleted, read_page

moments = st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2199, 12, 31))
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(moments)
def test_dates_are_those_of_the_standard_library(moment):
    moment = moment.replace(tzinfo=datetime.timezone.utc)
    whole = moment.replace(microsecond=0).timestamp()
    assert encoding.read_http_date(email.utils.format_datetime(moment, usegmt=True)) == whole
    assert encoding.read_iso_date(moment.strftime("%Y-%m-%dT%H:%M:%SZ")) == whole
    assert encoding.read_iso_date(moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) == pytest.approx(moment.timestamp())


@pytest.mark.parametrize("text", ["", "now", "Sat, 21 Nov 2026 03:00:00 CET", "Sat, 21 Foo 2026 03:00:00 GMT"])
def test_what_is_no_date_is_none(text):
    assert encoding.read_http_date(text) is None
    assert encoding.read_iso_date(text) is None


@given(texts)
def test_forms_and_entities_are_decoded(text):
    assert encoding.decode_form(quote_plus(text)) == text
    assert encoding.unescape(sax_escape(text, {'"': "&quot;", "'": "&apos;"})) == text
    assert encoding.unescape("".join(f"&#{ord(c)};&#x{ord(c):x};" for c in text)) == "".join(c * 2 for c in text)
    assert ElementTree.fromstring(f"<a>{encoding.escape(text)}</a>").text in (text, None)


def page_of(items, is_encoded, blanks):
    """A page as servers write it; their element order, spacing and further elements differ."""
    contents = ""
    for key, size in items:
        key = quote_plus(key) if is_encoded else sax_escape(key)
        etag = "<ETag>&quot;e&quot;</ETag>"
        owner = "<Owner><ID>1</ID><DisplayName>Size</DisplayName></Owner>"
        contents += f"{blanks}<Contents><Key>{key}</Key>{blanks}<LastModified>2026-11-21T03:00:00.000Z</LastModified>"
        contents += f"{etag}<Size>{size}</Size>{owner}<StorageClass>STANDARD</StorageClass></Contents>"
    head = "<Name>b</Name><Prefix>p</Prefix><KeyCount>2</KeyCount><Delimiter>/</Delimiter>"
    kind = "<EncodingType>url</EncodingType>" if is_encoded else ""
    head = f"{head}{kind}<IsTruncated>true</IsTruncated>"
    return f'<?xml version="1.0"?>\n<ListBucketResult xmlns="x">{head}{contents}</ListBucketResult>'


@given(st.lists(st.tuples(texts, st.integers(0, 10**12)), max_size=5), st.booleans(), st.sampled_from(["", "\n  "]))
def test_a_page_is_read_as_it_was_written(items, is_encoded, blanks):
    page = read_page(page_of(items, is_encoded, blanks))
    assert page.is_truncated
    assert page.objects == [Listed(key, size, '"e"', "2026-11-21T03:00:00.000Z") for key, size in items]


@given(st.lists(texts, min_size=1, max_size=5))
def test_bodies_are_the_xml_that_a_parser_reads(keys):
    tree = ElementTree.fromstring(delete_body(keys)[0])
    assert [element.text or "" for element in tree.iter() if element.tag.endswith("Key")] == keys
    tree = ElementTree.fromstring(complete_body(keys))
    assert [element.text or "" for element in tree.iter() if element.tag.endswith("ETag")] == keys


def test_what_could_not_be_deleted_is_named():
    text = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b &amp; c</Key><Code>AccessDenied</Code>"
    (failure,) = read_deleted(text + "<Message>no</Message></Error></DeleteResult>")
    assert failure == ("b & c", "AccessDenied", "no")


@pytest.mark.parametrize("text", ["&#x110000;", "&#x" + "f" * 5000 + ";", "&#" + "9" * 5000 + ";", "&unknown;"])
def test_a_reference_to_no_character_stays_as_it_is(text):
    assert encoding.unescape(text) == text
