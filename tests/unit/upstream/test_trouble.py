"""What do operators learn of an upstream that is not reached: by the log, by `check`, and what do callers learn?"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Intervals
from gateway.commands import check
from gateway.config.settings import Settings
from gateway.upstream.trouble import AGAIN_SECONDS, MEANINGS, Trouble, words_of
from tests.support.gateway import GENERATE, TEXT, running
from tests.support.wire import answer, saying, wire
from tests.unit.upstream.test_tls import ELSEWHERE, GOOD, HERE, served_with, signed

FAULTS = {
    "expired": "its TLS certificate has expired",
    "not yet": "its TLS certificate is not valid yet",
    "wrong host": "its TLS certificate is for another name",
    "another CA": "its TLS certificate is from an authority that is not trusted here",
    "TLS 1.1": "it ended the TLS handshake",
    "no name": "its name does not resolve",
    "refused": "the connection was refused",
    "no TLS": "it could not be connected to in time",
    "proxy refuses": "the forward proxy refuses our user or password",
    "proxy cannot": "the forward proxy refuses to connect to it",
    "proxy gone": "on the way to the forward proxy: the connection was refused",
}


@contextlib.asynccontextmanager
async def upstream_with(fault: str, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """The settings that lead to an upstream with this fault."""
    authority = signed(None)
    settings: dict[str, Any] = {
        "upstream_ca_file": authority.save(folder / "ca.pem"),
        "connect_timeout_seconds": 0.5,
    }
    certificate = {
        "expired": lambda: signed(HERE, by=authority, days=(-30, -1)),
        "not yet": lambda: signed(HERE, by=authority, days=(1, 30)),
        "wrong host": lambda: signed(ELSEWHERE, by=authority),
        "another CA": lambda: signed(HERE, by=signed(None)),
    }.get(fault, lambda: signed(HERE, by=authority))()
    newest = ssl.TLSVersion.TLSv1_1 if fault == "TLS 1.1" else ssl.TLSVersion.TLSv1_3
    tls = served_with(certificate, folder, newest=newest)
    status = {"proxy refuses": "407 Login", "proxy cannot": "502 No"}.get(fault, "200 OK")
    async with wire(saying(answer(GOOD)), tls=None if fault == "no TLS" else tls) as secure, wire(
        saying(answer(b"", status=status, more="proxy-authenticate: Basic\r\n"))
    ) as plain:  # fmt: skip
        settings["upstream_url"] = secure.url.replace("http:", "https:")
        if fault == "no name":
            settings["upstream_url"] = "https://no-such-host.invalid"
        elif fault == "refused":
            settings["upstream_url"] = "http://127.0.0.1:1"
        elif fault == "proxy gone":
            settings["upstream_proxy"] = "http://127.0.0.1:1"
        elif fault.startswith("proxy"):
            settings["upstream_proxy"] = plain.url.replace("//", "//us:secret-password@")
        yield settings


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_reason_is_told(tmp_path: Path, fault: str) -> None:
    """U13, U16: log and `check` say in words what is wrong, and no line holds a password, a URL or a library's text."""
    async with upstream_with(fault, tmp_path) as settings:
        url = str(settings.pop("upstream_url"))
        async with running(tmp_path, url, intervals=Intervals(backoff_seconds=0.01), **settings) as gateway:
            response = await gateway.http.post(GENERATE, json=TEXT)
            await gateway.http.post(GENERATE, json=TEXT)
            await gateway.entries(2)
            told = [line for line in gateway.lines() if line["event"] == "upstream_unreachable"]
        with pytest.raises(check.Red) as red:
            await check._upstream(Settings(upstream_url=url, upstream_key="sk-x", **settings))
    assert (502, "UPSTREAM_UNREACHABLE") == (
        response.status_code, response.json()["error"]["details"][0]["reason"],
    )  # fmt: skip
    (line,) = told
    assert line["why"].startswith(FAULTS[fault])
    assert FAULTS[fault] in str(red.value)
    assert "secret-password" not in f"{told}{red.value}{response.text}"
    assert FAULTS[fault] not in response.text


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "511 Network Authentication Required"])
async def test_a_proxys_word_is_not_the_callers(tmp_path: Path, status: str) -> None:
    """S2: what a proxy on the way wants of the operator is a 502 for the caller, with nothing of it passed on."""
    said = saying(answer(b"no!", status=status, more="proxy-authenticate: Basic realm=secret\r\n"))
    async with wire(said) as proxy, running(
        tmp_path, "http://upstream.invalid", upstream_proxy=proxy.url.replace("//", "//u:bad@")
    ) as gateway:  # fmt: skip
        response = await gateway.http.post(GENERATE, json=TEXT)
        entry = await gateway.entry()
        told = [line["why"] for line in gateway.lines() if line["event"] == "upstream_unreachable"]
    assert (502, "UPSTREAM_ERROR") == (response.status_code, response.json()["error"]["details"][0]["reason"])
    assert "proxy-authenticate" not in response.headers
    assert (int(status[:3]), 502) == (entry["upstream_status"], entry["status"])
    assert 1 == len(told)


@pytest.mark.parametrize(("again_seconds", "told"), [(60, ["a", "b"]), (0, ["a", "a", "b", "a", "b"])])
def test_each_reason_is_told_once_a_minute(again_seconds: float, told: list[str]) -> None:
    """R9's kind: many calls that meet the same make one line; another reason makes its own, and later it is told again."""
    heard: list[str] = []
    trouble = Trouble(heard.append, again_seconds=again_seconds)
    for why in ("a", "a", "b", "a", "b"):
        trouble.tell(why)
    assert told == heard
    assert 60 == AGAIN_SECONDS


def test_what_is_not_known_is_the_class() -> None:
    """S2: a text that nobody knows is never shown; its class says enough to search for."""
    assert "ConnectionError" == words_of(ConnectionError("https://sk-secret@host/ failed oddly"))
    assert len({mark for mark, _ in MEANINGS}) == len(MEANINGS)


async def test_an_answer_ends_the_trouble(tmp_path: Path) -> None:
    """U16: an upstream that answers, whatever it says, is no trouble of the way to it."""
    async with wire(saying(answer(b"{}", status="500 Oh"))) as upstream, running(tmp_path, upstream.url) as gateway:
        await asyncio.gather(*(gateway.http.post(GENERATE, json=TEXT) for _ in range(3)))
        assert [] == [line for line in gateway.lines() if line["event"] == "upstream_unreachable"]
