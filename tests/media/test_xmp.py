"""Properties of XMP are found in all the forms that programs write, and hostile XML harms nobody."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.word_files import xmp_packet
from vlm2vec.media.xmp import parse_xmp


def test_a_property_may_be_an_attribute_a_text_or_a_list() -> None:
    packet = xmp_packet(
        "<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>Füchse &amp; Co</rdf:li></rdf:Alt></dc:title>"
        "<dc:subject><rdf:Bag><rdf:li>fox</rdf:li><rdf:li>forest</rdf:li></rdf:Bag></dc:subject>"
        "<photoshop:Country>Norway</photoshop:Country><photoshop:Urgency>5</photoshop:Urgency>",
        "photoshop:City='Oslo' photoshop:Urgency='5'",
    )
    assert parse_xmp(packet, {"title", "subject", "Country", "City", "State"}) == {
        "City": ["Oslo"],
        "title": ["Füchse & Co"],
        "subject": ["fox", "forest"],
        "Country": ["Norway"],
    }


def test_a_name_in_a_structure_is_found() -> None:
    packet = xmp_packet(
        "<mwg-rs:Regions rdf:parseType='Resource'><mwg-rs:RegionList><rdf:Bag>"
        "<rdf:li><rdf:Description mwg-rs:Name='Anna' mwg-rs:Type='Face'/></rdf:li>"
        "</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
    )
    assert parse_xmp(packet, {"Name"}) == {"Name": ["Anna"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_packet_may_be_padded_and_of_another_encoding(encoding: str) -> None:
    packet = xmp_packet("<dc:title>Füchse</dc:title>").decode().replace("begin='' ", "").encode(encoding)
    assert parse_xmp(packet + b"\n  \n", {"title"}) == {"title": ["Füchse"]}


def test_a_packet_that_is_damaged_is_read_up_to_the_damage() -> None:
    packet = xmp_packet("<dc:title>Foxes</dc:title><dc:subject>cut")
    assert parse_xmp(packet[: packet.index(b"cut")], {"title", "subject"}) == {"title": ["Foxes"]}


@pytest.mark.parametrize("packet", [b"", b"no XML", b"<", b"\x00\x00"])
def test_what_is_no_xml_from_its_beginning_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match="its XMP is no XML"):
        parse_xmp(packet, {"title"})


def test_entities_are_never_expanded() -> None:
    lines = "".join(f"<!ENTITY e{step} '{f'&e{step - 1};' * 10}'>" for step in range(1, 30))
    bomb = f"<!DOCTYPE x [<!ENTITY e0 'ha'>{lines}]><dc:title xmlns:dc='dc'>&e29;</dc:title>"
    outside = "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><title>&e;</title>"
    for packet in (bomb, outside):
        with pytest.raises(ValueError, match="its XMP declares a document type"):
            parse_xmp(packet.encode(), {"title"})


def test_deep_nesting_is_read_in_time_linear_to_its_length() -> None:
    start_s = time.process_time()
    assert parse_xmp(b"<a>" * 300_000, {"title"}) == {}
    assert time.process_time() - start_s < 5


@given(st.binary())
def test_any_bytes_are_values_or_a_value_error(data: bytes) -> None:
    for packet in (data, b"<title>" + data + b"</title>"):
        try:
            values = parse_xmp(packet, {"title"})
        except ValueError:
            continue
        assert set(values) <= {"title"}
