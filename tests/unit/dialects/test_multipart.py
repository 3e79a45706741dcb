"""Is a form read in place, and refused wherever two readers could read two things?"""

import email.parser
import email.policy
import itertools
import re
import tracemalloc
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.multipart import Form, boundary_of
from gateway.errors.tree import BadRequest, ModelMissing

MIB = 2**20
TYPE = "multipart/form-data; boundary=b"
Reader = Callable[[bytes], set[bytes]]


def part(name: str, content: bytes = b"m", more: str = "", lines: str = "") -> bytes:
    """One part with its delimiter; `more` are parameters of its disposition, `lines` further lines of its head."""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n{lines}\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    """A whole body."""
    return b"".join(parts) + end


def read(body: bytes, content_type: str = TYPE) -> Form:
    """Read it."""
    return Form.read(content_type, body)


MODEL, FILE = (
    part("model", b"gpt-image-1.5"),
    part("image", b"\x89PNG", '; filename="a.png"', "Content-Type: image/png\r\n"),
)


def test_what_http_libraries_send() -> None:
    """P11: the forms of HTTP libraries are read, wherever in them the model stands."""
    files = [("image[]", ("a.png", b"one", "image/png")), ("image[]", ("b c.png", b"two!", "image/png"))]
    request = httpx.Request("POST", "http://x", files=files, data={"model": "gpt-image-1.5", "n": "2"})
    read_form = read(request.read(), request.headers["content-type"])
    assert ("gpt-image-1.5", "2", "") == (read_form.model, read_form.text("n"), read_form.text("size"))
    assert [3, 4] == [one.size for one in read_form.files("image")]
    assert request.headers["content-type"] == read_form.content_type
    last = read(form(FILE, MODEL))
    assert ("gpt-image-1.5", "image/png", b"\x89PNG") == (
        last.model, last.parts[0].content_type, form(FILE, MODEL)[last.parts[0].begin : last.parts[0].end],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b", b"b"),
        ("Multipart/Form-Data;BOUNDARY=b", b"b"),
        ('multipart/form-data ; charset=utf-8; boundary="b"', b"b"),
        ('multipart/form-data; boundary="a b:c"', b"a b:c"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            b"----WebKitFormBoundary7MA4YWxkTrZu0gW",
        ),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    """P11: a boundary is taken quoted or not, beside other parameters."""
    assert boundary == boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 71, "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a, multipart/form-data; boundary=b", 'multipart/form-data; boundary="a ',
        'multipart/form-data; boundary="a "', "multipart/form-data; boundary=a b", "multipart/form-data; boundary=\xe9",
        "multipart/form-data; boundary*=utf-8''b", "multipart/form-data; boundary=b; boundary*0=c", 'multipart/form-data; boundary="a\\"b"',
        "multipart/mixed; boundary=b", "multipart/form-data boundary=b", "application/json", "", "multipart/form-data; boundary=b\x00",
        'multipart/form-data; boundary="\r\n"', "multipart/form-data; boundary=a;b", 'multipart/form-data; boundary="a;b"',
    ],
)  # fmt: skip
def test_bad_boundaries(content_type: str) -> None:
    """D9: without one good boundary nobody knows what the parts are."""
    with pytest.raises(BadRequest, match="boundary"):
        boundary_of(content_type)


@pytest.mark.parametrize(("boundary", "sent"), [("b", "b"), ("a b:c", '"a b:c"'), ("x-y_z.1'+", "x-y_z.1'+")])
def test_what_goes_upstream_is_made_anew(boundary: str, sent: str) -> None:
    """P4: upstream gets the boundary that was understood, and quotes only where it needs them."""
    body = form(MODEL).replace(b"--b", b"--" + boundary.encode())
    assert (
        f"multipart/form-data; boundary={sent}"
        == read(body, f'Multipart/form-data; x=1; Boundary="{boundary}"').content_type
    )


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[object FormData]", b'{"model":"m"}', b"--b--", b"--b--\r\n", b"--b\r\n", b"\r\n\r\n" + form(MODEL), b"x" + form(MODEL),
        b"preamble\r\n" + form(MODEL), form(MODEL) + b"x", form(MODEL) + b"\r\n", form(MODEL, end=b""), form(MODEL, end=b"--b"),
        form(MODEL, end=b"--b-"), form(MODEL, end=b"--b \r\n--b--"), form(MODEL, end=b"--b--\n"), form(MODEL, end=b"--B--\r\n"),
        form(MODEL)[:-8] + b"--b--\r\n", form(MODEL).replace(b"\r\n", b"\n"), form(MODEL).replace(b"--b\r\n", b"--b\n"),
        form(MODEL).replace(b"--b\r\n", b"--b \r\n"), form(part("model", b"m\r\n--bad")), form(part("x", b"\n--b\nhello")),
        form(part("file", b"x--b", '; filename="a"'), MODEL), form(MODEL, b"--b\r\n"), form(MODEL, b"--b\r\n\r\nx\r\n"),
        form(MODEL, b"--b\r\n\r\n\r\nx\r\n"), form(b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n--b--'),
    ],
)  # fmt: skip
def test_bodies_with_something_to_forgive(body: bytes) -> None:
    """D9: what stands around, between or instead of parts is refused."""
    with pytest.raises(BadRequest):
        read(body)


@pytest.mark.parametrize(
    "head",
    [
        "", "Content-Disposition: form-data", 'Content-Disposition: form-data; name=""', 'Content-Disposition: attachment; name="x"',
        'Content-Disposition: form-data; name="x', 'Content-Disposition: form-data; name="x"; name="y"', 'Content-Disposition: form-data; name="x"; NAME="y"',
        "Content-Disposition: form-data; name*=utf-8''model", "Content-Disposition: form-data; name=\"x\"; name*=utf-8''model",
        "Content-Disposition: form-data; name*0=mo; name*1=del", 'Content-Disposition: form-data; name="mo\\del"', 'Content-Disposition: form-data; name="mo%64el"',
        'Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"', 'Content-Disposition: form-data;\r\n name="x"',
        'Content-Disposition: form-data; name="x"\r\n folded', 'Content-Disposition : form-data; name="x"', 'Content-Disposition: form-data; name="x\ny"',
        'Content-Disposition: form-data; name="x"\nContent-Type: text/plain', 'Content-Disposition: form-data; name="x"\rContent-Type: text/plain',
        'Content-Disposition: form-data; name="\x7f"', 'Content-Disposition: form-data; name="\u200b"', 'Content-Disposition: form-data; name="x" filename="y"',
        'Content-Disposition: form-data; name="x"; filename="a\\"; name=\\"model"', 'Content-Disposition: form-data; name="x"; filename="a\\\\"',
        'Content-Disposition: form-data; name="x"; filename="; name=model; y="', "Content-Disposition: form-data; name=x y", "Content-Type: text/plain", "nonsense",
        'Content-Disposition: form-data; name="_charset_"', 'Content-Disposition: form-data; name="x"\r\nContent-Transfer-Encoding: base64',
        'Content-Disposition: form-data; name="x"\r\nContent-Transfer-Encoding: quoted-printable', 'Content-Disposition: form-data; name="x"\r\nContent-Length: 7',
        'Content-Disposition: form-data; name="x"\r\nContent-Type: multipart/mixed; boundary=c', 'Content-Disposition: form-data; name="x"\r\nContent-Type: message/rfc822',
        'Content-Disposition: form-data; name="x"\r\nContent-Type: text/plain; charset=utf-16', 'Content-Disposition: form-data; name="x"\r\nContent-Type: text/plain; charset',
        'Content-Disposition: form-data; name="x"\r\nX: \x00', 'Content-Disposition: form-data; name="x"\r\nContent-Type: a/b\r\ncontent-type: c/d',
        'Content-Disposition: form-data; name="x"\r\nX-Padding: ' + "p" * 17_000, 'Content-Disposition: form-data; name="' + "n" * 17_000 + '"',
    ],
)  # fmt: skip
def test_heads_that_readers_read_differently(head: str) -> None:
    """D9: a part has one plain head with one plain name."""
    with pytest.raises(BadRequest):
        read(form(f"--b\r\n{head}\r\n\r\nxx\r\n".encode(), MODEL))


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ('; filename="C:\\pictures\\a.png"', ""), ('; filename="größe;v=1.png"', ""), ("; filename=a.png; filename*=utf-8''a.png", ""),
        ("", "Content-Type: text/plain; charset=UTF-8\r\nContent-Length: 2\r\nContent-Transfer-Encoding: 8bit\r\nX-Any: thing\r\n"),
        ('; filename=""', "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: BINARY\r\n"),
    ],
)  # fmt: skip
def test_heads_that_nobody_reads_differently(more: str, lines: str) -> None:
    """P11: names of files may be anything that ends where it ends, and plain lines may stand beside."""
    read_form = read(form(part("file", b"xx", more, lines), MODEL))
    assert (bool(more), 2, "gpt-image-1.5") == (read_form.parts[0].is_file, read_form.parts[0].size, read_form.model)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ((FILE,), ModelMissing), ((part("model", b""),), ModelMissing), ((MODEL, MODEL), BadRequest), ((MODEL, part("Model")), BadRequest),
        ((part("Model"),), BadRequest), ((MODEL, part("model[]")), BadRequest), ((part("model[0]"),), BadRequest), ((part(" model "),), BadRequest),
        ((part("model", b"m", '; filename="m"'),), BadRequest), ((part("model", b"m", "; filename*=utf-8''m"),), BadRequest),
        ((part("model", b" m"),), BadRequest), ((part("model", b"m\x00"),), BadRequest), ((part("model", b"m" * 129),), BadRequest),
        ((part("model", "größe".encode()),), BadRequest),
    ],
)  # fmt: skip
def test_one_model(parts: tuple[bytes, ...], error: type[Exception]) -> None:
    """K4: a form names one model, plainly, or is refused."""
    with pytest.raises(error):
        _ = read(form(*parts)).model


def test_fields_that_are_read_stand_once() -> None:
    """D9: two readers could take the first or the last of two; what nobody reads here may be repeated."""
    read_form = read(
        form(MODEL, part("n", b"1"), part("n", b"9"), part("include[]"), part("include[]"), part("size", b"\xff"))
    )
    for name in ("n", "size"):
        with pytest.raises(BadRequest):
            read_form.text(name)
    assert (False, 2) == (read_form.is_true("stream"), sum(one.name == "include[]" for one in read_form.parts))


@pytest.mark.parametrize(
    "parts",
    [
        [part("x")] * 201, [part("x")] * 10_000, [part("x", b"y" * (64 * 1024 + 1))], [part("x", b"y" * 64 * 1024)] * 17,
    ],
    ids=["201 parts", "10 000 parts", "large field", "many fields"],
)  # fmt: skip
def test_forms_that_are_too_much(parts: list[bytes]) -> None:
    """D9: parts, fields and all fields together have a cap; files have the body's."""
    with pytest.raises(BadRequest, match=r"more than 200 parts|larger than"):
        read(form(MODEL, *parts))


def test_nothing_is_copied() -> None:
    """D8: a model behind 25 MiB is found, and the bytes before it stay where they are."""
    body = form(part("image", b"\x00\r\n-" * (25 * MIB // 4), '; filename="a.png"'), MODEL)
    tracemalloc.start()
    try:
        assert "gpt-image-1.5" == read(body).model
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_a_delimiter_across_two_blocks() -> None:
    """A10: a delimiter is found wherever it stands, also where one search ends and the next begins."""
    for at in range(65_536 - 80, 65_536 + 8):
        body = form(part("image", b"x" * at, '; filename="a.png"'), MODEL)
        assert [at, 13] == [one.size for one in read(body).parts]


def by_email(body: bytes) -> set[bytes]:
    """The models that Python's parser of mail reads."""
    head = f"Content-Type: {TYPE}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    return {
        bytes(part.get_payload(decode=True))
        for part in (message.walk() if message.is_multipart() else ())
        if part is not message and str(part.get_param("name", header="content-disposition")).casefold() == "model"
    }


def forgiving(body: bytes) -> set[bytes]:
    """Those of a reader that takes any line end, text around the parts, and any head in which a name stands."""
    text = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    models = set()
    for piece in re.split(rb"(?:^|\n)--b(?:--)?[ \t]*(?=\n|$)", text)[1:]:
        head, _, content = piece.lstrip(b"\n").partition(b"\n\n")
        names = re.findall(rb"[; \t]name\*?=(?:[a-z0-9-]*'')?\"?([^\";\n]*)", head.replace(b"\n ", b" "), re.IGNORECASE)
        if any(name.strip().lower() == b"model" for name in names):
            models.add(content)
    return models


def greedy(body: bytes) -> set[bytes]:
    """Those of a reader that looks for the boundary alone, wherever it stands, and unescapes names."""
    models = set()
    for piece in body.split(b"--b"):
        head, _, content = piece.partition(b"\r\n\r\n")
        if (name := re.search(rb'name="((?:[^"\\]|\\.)*)"', head)) and name[1].replace(
            b"\\", b""
        ).strip().lower() == b"model":
            models.add(content.removesuffix(b"\r\n"))
    return models


# What is put together in the search for two readings.
EVIL = b'Content-Disposition: form-data; name="model"\r\n\r\nevil'
PIECES = [
    b"", MODEL, FILE, part("model", b"evil"), part("Model", b"evil"), part(" model", b"evil"), part("model[]", b"evil"), part("mo\\del", b"evil"),
    part("m%6fdel", b"evil"), part("_charset_", b"utf-16"), part("model", b""), part("model", b"evil", '; filename="a"'), part("model", b"evil", "; filename*=utf-8''a"),
    *(part("x", content) for content in (
        b"--b", b"\n--b\n" + EVIL, b"\r--b\r" + EVIL, b"\r\n--b \r\n" + EVIL, b"\r\n--bb\r\n" + EVIL, b"\r\n--b\r\n" + EVIL, b"\r\n--b--\r\n--b\r\n" + EVIL,
        b"\r\n\r\n" + EVIL, EVIL,
    )),
    *(part("x", b"evil", more) for more in (
        '; name="model"', "; name=model", "; name*=utf-8''model", "; name*0=mo; name*1=del", '; filename="\\"; name=\\"model"', '; filename="\\"; name="model"',
        '; filename="a\\\\"; name="model"', '; filename="a; name=model"', '; filename="a; name=\\"model\\""', '\r\n ; name="model"', '\n; name="model"', '\r; name="model"',
    )),
    *(part("x", b"evil", "", lines) for lines in (
        'Content-Disposition: form-data; name="model"\r\n', 'X: y\nContent-Disposition: form-data; name="model"\r\n', ' ; name="model"\r\n',
        "\nx", "\r\n" + EVIL.decode() + "\r\n--b\r\n", "Content-Type: multipart/mixed; boundary=c\r\n",
    )),
    b"--", b"\r\n", b"\n", b"\r", b"--b", b"--b\r\n", b"\n--b\n", b"--b--\r\n", b"x", EVIL, b"--b\r\n" + EVIL, b"--b \r\n" + EVIL + b"\r\n", b"--b\n" + EVIL + b"\r\n",
]  # fmt: skip


def is_read_in_one_way(body: bytes) -> bool:
    """Whether a form passes; fails where a reader, however forgiving, reads another model than we do."""
    try:
        model = read(body).model.encode()
    except (BadRequest, ModelMissing):
        return False
    for reader in (by_email, forgiving, greedy):
        assert reader(body) <= {model}, (reader.__name__, body)
    assert {model} == by_email(body)
    return True


def test_no_form_has_two_readings() -> None:
    """K4, D9: of all that can be put together of what readers forgive, what passes is read in one way."""
    tails = [MODEL + b"--b--\r\n", b"--b--\r\n", b"--b--", b"--b\r\n", b""]
    passed = [is_read_in_one_way(b"".join(pieces)) for pieces in itertools.product(PIECES, PIECES, tails)]
    assert 10 < sum(passed) < len(passed) // 10


@settings(deadline=None)
@given(at=st.integers(0, 400), new=st.binary(max_size=4), gone=st.integers(0, 4))
def test_a_form_that_is_damaged(at: int, new: bytes, gone: int) -> None:
    """D9: whatever is done to a good form, it is refused, or read as others read it; nothing else is raised."""
    whole = form(part("prompt", b"a cat"), FILE, MODEL, part("n", b"2"))
    is_read_in_one_way(whole[:at] + new + whole[at + gone :])
