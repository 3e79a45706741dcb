"""Who is calling: keys in every place and every state."""

import datetime as dt
import gc
import statistics
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.asgi.headers import Headers
from gateway.asgi.request import Request
from gateway.auth import Auth
from gateway.config.clients import Clients, hash_key, new_key
from gateway.errors.tree import ConflictingKeys, KeyInvalid, KeyMissing

KEY, OLD_KEY, NEXT_KEY, REVOKED, EXPIRED, UNKNOWN = (new_key() for _ in range(6))
MALFORMED = UNKNOWN[:-1] + ("a" if UNKNOWN[-1] != "a" else "b")
HOMEMADE = "sk-hand-made"
LAST_DAY = dt.date(2027, 6, 30)

CLIENTS = Clients.parse(
    f"""
    [clients.design]
    key_sha256 = ["{hash_key(OLD_KEY)}", "{hash_key(KEY)}"]
    [clients.next]
    key_sha256 = ["{hash_key(NEXT_KEY)}"]
    expires = {LAST_DAY}
    [clients.revoked]
    key_sha256 = ["{hash_key(REVOKED)}"]
    disabled = true
    [clients.expired]
    key_sha256 = ["{hash_key(EXPIRED)}"]
    expires = 2020-01-01
    [clients.homemade]
    key_sha256 = ["{hash_key(HOMEMADE)}"]
    """.encode()
)
AUTH = Auth(lambda: CLIENTS, lambda: LAST_DAY)
REFUSED = {"malformed": MALFORMED, "unknown": UNKNOWN, "revoked": REVOKED, "expired": EXPIRED, "homemade": HOMEMADE}

google, bearer = (b"x-goog-api-key", KEY.encode()), (b"authorization", f"Bearer {KEY}".encode())


def asked(*headers: tuple[bytes, bytes], query: bytes = b"") -> Request:
    """A request as the pipeline hands it over."""
    path = b"/v1beta/models/gemini-2.5-flash:generateContent"
    return Request(http_method="POST", raw_path=path, query=query, headers=Headers(headers), request_id="r")


def with_key(key: str) -> Request:
    """A request with its key in the usual place, among the headers that Google's SDK sends."""
    return asked(
        (b"host", b"gateway:8080"),
        (b"user-agent", b"google-genai-sdk/3.4.0 gl-python/3.11.7"),
        (b"content-type", b"application/json"),
        (b"content-length", b"150"),
        (b"x-goog-api-key", key.encode()),
    )


@pytest.mark.parametrize(
    "request_",
    [
        asked(google),
        asked(bearer),
        asked((b"authorization", f"bEARER   {KEY} ".encode())),
        asked((b"x-goog-api-key", f"\t{KEY} ".encode())),
        asked(query=f"key={KEY}".encode()),
        asked(query=f"alt=sse&key={KEY}&x=1".encode()),
        asked(query=b"key=" + "".join(f"%{ord(one):02x}" for one in KEY).encode()),
        asked(google, google, bearer, bearer, query=f"key={KEY}&key={KEY}".encode()),
        asked(google, (b"x-goog-api-key", b""), (b"authorization", b"Bearer "), query=b"key=&key"),
        asked(google, (b"authorization", b"Basic dXNlcjpwYXNz"), query=b"apikey=other&xkey=other&key"),
        asked((b"x-api-key", KEY.encode())),
        asked((b"x-api-key", KEY.encode()), bearer),
        asked((b"x-api-key", b"sk-ant-somebody-s-own"), bearer),
        asked((b"x-api-key", KEY.encode()), (b"authorization", b"Bearer sk-somebody-s-own"), query=b"key=x"),
    ],
)
def test_a_key_is_found_wherever_clients_put_it(request_: Request) -> None:
    """K4: header, bearer or query, alone or all alike; of several the only one of our form; empty ones do not count."""
    assert "design" == AUTH.identify(AUTH.credentials(request_)).name


@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked((b"x-goog-api-key", b"")),
        asked((b"authorization", b"Bearer")),
        asked((b"authorization", b"Basic " + KEY.encode())),
        asked((b"authorization", KEY.encode())),
        asked((b"api-key", KEY.encode())),
        asked(query=b"key="),
        asked(query=b"key=%20"),
        asked(query=b"access_token=" + KEY.encode()),
    ],
)
def test_no_key_is_said_so(request_: Request) -> None:
    """A request without a key in any of the places is 401 KEY_MISSING."""
    with pytest.raises(KeyMissing) as refusal:
        AUTH.identify(AUTH.credentials(request_))

    assert "KEY_MISSING" == refusal.value.reason


@pytest.mark.parametrize(
    "request_",
    [
        asked(google, (b"x-goog-api-key", NEXT_KEY.encode())),
        asked(google, (b"authorization", f"Bearer {OLD_KEY}".encode())),
        asked(google, query=f"key={NEXT_KEY}".encode()),
        asked((b"x-api-key", b"sk-a"), query=b"key=x"),
        asked(bearer, (b"x-api-key", NEXT_KEY.encode())),
        asked(query=f"key={KEY}&key={NEXT_KEY}".encode()),
        asked((b"x-api-key", MALFORMED.encode()), query=b"key=" + quote(quote(KEY + "/")).encode()),
    ],
)
def test_two_keys_that_differ_are_refused(request_: Request) -> None:
    """K4: which of two keys counts is never guessed, even when both belong to one client."""
    with pytest.raises(ConflictingKeys):
        AUTH.identify(AUTH.credentials(request_))


@pytest.mark.parametrize("key", REFUSED.values(), ids=REFUSED)
def test_every_bad_key_hears_the_same(key: str) -> None:
    """K3: malformed, unknown, revoked, expired and home-made keys cannot be told apart by the answer."""
    with pytest.raises(KeyInvalid) as refusal:
        AUTH.identify(AUTH.credentials(with_key(key)))

    error = refusal.value
    assert (401, "KEY_INVALID") == (error.code, error.reason)
    assert "API key not valid. Please pass a valid API key." == error.message
    assert ({}, None) == (error.metadata, error.retry_after)
    assert error.__cause__ is error.__context__ is None


def test_every_bad_key_takes_the_same_time() -> None:
    """K3: refusing takes as long for a key that exists as for one that does not, within a microsecond."""
    requests = {state: with_key(key) for state, key in REFUSED.items() if state != "homemade"}
    taken: dict[str, list[int]] = {state: [] for state in requests}
    gc.disable()
    try:
        for _ in range(5_000):
            for state, request in requests.items():
                began = time.perf_counter_ns()
                with pytest.raises(KeyInvalid):
                    AUTH.identify(AUTH.credentials(request))
                taken[state].append(time.perf_counter_ns() - began)
    finally:
        gc.enable()

    medians = {state: statistics.median(times) for state, times in taken.items()}
    assert max(medians.values()) - min(medians.values()) < 1_000, medians


def test_a_rotation_has_two_valid_keys() -> None:
    """K8: the old and the new key of a client both open, and both are that client."""
    assert AUTH.identify(AUTH.credentials(with_key(OLD_KEY))) is AUTH.identify(AUTH.credentials(with_key(KEY)))


def test_the_last_day_counts_until_midnight_utc() -> None:
    """K8: on the day of `expires` the key opens, on the next it does not."""
    today = LAST_DAY
    auth = Auth(lambda: CLIENTS, lambda: today)

    assert "next" == auth.identify(auth.credentials(with_key(NEXT_KEY))).name
    today += dt.timedelta(days=1)
    with pytest.raises(KeyInvalid):
        auth.identify(auth.credentials(with_key(NEXT_KEY)))


def test_a_change_counts_from_the_next_call() -> None:
    """K8: the clients are asked for at every call, so that a key stops with the file that no longer has it."""
    clients = CLIENTS
    auth = Auth(lambda: clients)

    assert "design" == auth.identify(auth.credentials(with_key(KEY))).name
    clients = Clients()
    with pytest.raises(KeyInvalid):
        auth.identify(auth.credentials(with_key(KEY)))


def test_another_spelling_is_another_key() -> None:
    """L7: no spelling but the exact one opens, so that no limit is got around by writing a key differently."""
    percent = "".join(f"%{ord(one):02X}" for one in KEY)
    changed = [KEY.upper(), KEY.lower(), KEY.swapcase(), KEY[::-1], KEY[4:], KEY[:-6], KEY[:-1], percent, hash_key(KEY)]
    marks = [
        *"*?.,%;&#=/|_-+~'\"\\\0\x7f",
        "%00",
        "%20",
        "\0\n.",
        "x\xa0",
        "\u200b.",
        "\xff",
        KEY,
        f",{KEY}",
        f" {KEY}",
    ]
    spellings = [*changed, *(KEY + mark for mark in marks), *(mark + KEY for mark in marks)]

    assert len(set(spellings)) >= 50
    for spelling in spellings:
        with pytest.raises(KeyInvalid):
            AUTH.identify(AUTH.credentials(with_key(spelling)))


HOSTILE = (
    b"' OR 1=1 --",
    b"*",
    b"thg_*",
    b"thg_" + b"[0-9A-Za-z]" * 38,
    b"\0",
    b"\r\nx-goog-api-key: " + KEY.encode(),
    b'return redis.call("KEYS", "*")',
    b"${jndi:ldap://127.0.0.1/a}",
    b"../../clients.toml",
    b"%s%n{0.__class__}",
    b"null",
    b"thg_" + "\u0660".encode() * 38,
    b"\xff\xfe\x80",
    b"%",
    b"%zz%",
    b"a" * 10_000_000,
)
credentials = st.binary(max_size=200) | st.sampled_from(HOSTILE[:-1]) | st.text().map(str.encode)


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"x-goog-api-key", b"authorization"]), credentials)), credentials)
@example([(b"x-goog-api-key", hostile) for hostile in HOSTILE], b"key=" + HOSTILE[-1])
@example([], b"key=%")
@example([], b"&".join([b"key="] * 100_000))
def test_hostile_credentials_are_refused(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    """K4: whatever stands where a key belongs is a 400 or a 401, and nothing else."""
    for request in (asked(*headers, query=query), asked(*headers, query=b"key=" + query)):
        with pytest.raises((KeyMissing, ConflictingKeys)):
            AUTH.identify(AUTH.credentials(request))


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: ascii(hostile[:20]))
def test_each_hostile_credential_alone_is_an_invalid_key(hostile: bytes) -> None:
    """K4: alone in each place, it is a key that opens nothing."""
    for request in (
        asked((b"x-goog-api-key", hostile)),
        asked((b"authorization", b"Bearer " + hostile)),
        asked(query=b"key=" + quote(hostile).encode()),
    ):
        with pytest.raises(KeyMissing):
            AUTH.identify(AUTH.credentials(request))


@pytest.mark.parametrize("request_", [with_key(UNKNOWN), asked(google, query=f"key={UNKNOWN}".encode())])
def test_a_refusal_never_tells_the_key(request_: Request) -> None:
    """S3: neither the words of a refusal nor its traceback's text hold a key."""
    with pytest.raises((KeyInvalid, ConflictingKeys)) as refusal:
        AUTH.identify(AUTH.credentials(request_))

    assert not any(key[4:] in repr(refusal.value) + str(vars(refusal.value)) for key in (KEY, UNKNOWN))
