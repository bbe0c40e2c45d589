"""What is no picture or one in a format that is not read, and files that are two things in one."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO

from tests.corpus.images import Groups, Named, encode, noise, picture, tiff

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def groups() -> Groups:
    """Files by the statuses they may get."""
    yield {400}, iter([("nothing at all", b"")])
    yield {415}, _other_formats()
    yield {415}, iter([("TIFF of 16-bit LAB", tiff(64, 48, 8, (16, 16, 16), bytes(64 * 48 * 6)))])
    yield {415}, _by_signature()
    yield {400}, _of_our_formats_by_signature()
    yield {415}, _texts()
    yield {415}, _almost()
    yield {200}, _two_in_one()


def _other_formats() -> Iterator[Named]:
    image = noise(64, 48)
    for kind in ("ICO", "PPM", "TGA", "PCX", "SGI", "DDS", "EPS"):
        yield kind, encode(image, kind)
    yield "XBM", encode(image.convert("1"), "XBM")
    yield "IM", encode(image, "IM")


def _by_signature() -> Iterator[Named]:
    """First bytes of formats with a history of holes, and of what is no picture at all."""
    box = struct.pack(">I", 24) + b"ftyp"
    heads = {
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 64, 8, 3),
        "PSD of negative layers": b"8BPS\0\1" + bytes(20) + b"\xff\xff\xff\xff" * 8,
        "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "FITS": b"SIMPLE  =                    T" + b" " * 50,
        "packed FITS": gzip.compress(b"SIMPLE  =                    T" * 1000, mtime=0),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "JPEG 2000 stream": b"\xff\x4f\xff\x51" + bytes(60),
        "HEIC": box + b"heic" + bytes(60),
        "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60),
        "ICNS": b"icns" + struct.pack(">I", 68) + b"ic07" + bytes(56),
        "FLI": struct.pack("<IHHHH", 128, 0xAF11, 1, 64, 64) + bytes(116),
        "BLP": b"BLP2" + bytes(150),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
        "EMF": b"\1\0\0\0" + bytes(36) + b" EMF",
        "PPM of negative size": b"P6\n-1 -1\n255\n" + bytes(12),
        "cursor": b"\0\0\2\0\1\0" + bytes(60),
        "video": box + b"isom" + bytes(60),
        "sound": b"RIFF" + struct.pack("<I", 60) + b"WAVEfmt " + bytes(48),
        "film": b"RIFF" + struct.pack("<I", 60) + b"AVI LIST" + bytes(48),
        "program": b"\x7fELF\2\1\1" + bytes(57),
        "other program": b"MZ\x90\0" + bytes(60),
        "archive": _archive(),
        "tape": b"x.png" + bytes(252) + b"ustar\x0000" + bytes(240),
        "pickle": pickle.dumps({"pixels": [1, 2, 3]}, protocol=4),
        "array": b"\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False}",
        "tensors": struct.pack("<Q", 2) + b"{}",
    }
    yield from heads.items()


def _archive() -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("../../x.png"), picture("PNG"))
    return stream.getvalue()


def _of_our_formats_by_signature() -> Iterator[Named]:
    box = struct.pack(">I", 24) + b"ftyp"
    heads = {
        "AVIF": box + b"avif" + bytes(60),
        "TIFF of endless pages": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }
    yield from heads.items()


def _texts() -> Iterator[Named]:
    entity = b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/hostname">]><svg>&x;</svg>'
    texts = {
        "SVG with a script": SVG,
        "SVG with an entity": b'<?xml version="1.0"?>' + entity,
        "packed SVG": gzip.compress(SVG, mtime=0),
        "page": b"<!doctype html><img src=x onerror=alert(1)>",
        "program text": b"#!/bin/sh\nid\n",
        "JSON": json.dumps({"image": "data:image/png;base64,AAAA"}).encode(),
        "data URI": b"data:image/png;base64,iVBORw0KGgo=",
        "URL": b"http://127.0.0.1/metrics",
        "path": b"/etc/hostname",
        "special tokens": b"<|image_start|><|image_pad|><SPECIAL_100>",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n{} loop\n",
        "UTF-16": "\ufeffpicture".encode("utf-16-le"),
    }
    yield from texts.items()


def _almost() -> Iterator[Named]:
    whole = picture("PNG")
    yield "one byte", b"\x89"
    yield "zeros", bytes(5000)
    yield "noise", noise(40, 40, 9).tobytes()
    yield "PNG after a line break was changed", whole.replace(b"\r\n", b"\n", 1)
    yield "PNG after a blank", b" " + whole
    yield "PNG after 512 zeros", bytes(512) + whole
    yield "PNG as base64", b"iVBORw0KGgoAAAANSUhEUgAAAEAAAAAw"
    yield "GIF88a", b"GIF88a" + picture("GIF")[6:]
    yield "half of a signature", whole[:4]
    yield "two bytes of JPEG", b"\xff\xd8"
    yield "JPEG start, then zeros", b"\xff\xd8" + bytes(500)
    yield "RIFF without a kind", b"RIFF" + bytes(4)


def _two_in_one() -> Iterator[Named]:
    yield "PNG and archive", picture("PNG") + _archive()
    yield "JPEG and archive", picture("JPEG") + _archive()
    yield "GIF and script", picture("GIF") + b"/*=1;alert(1)//"
    yield "PNG and page", picture("PNG") + b"<script>alert(1)</script>"
    yield "JPEG and PNG", picture("JPEG") + picture("PNG")
    yield "WebP and noise", picture("WEBP") + noise(20, 20).tobytes()
