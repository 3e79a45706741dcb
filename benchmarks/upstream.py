"""What do the gateways ask?  nginx with fixed files (0.6 kB of text, 2.8 MB of picture), and a small source of streams.

Both over TLS if asked, with a certificate of a CA of the run's own.
"""

import base64
import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.cases import CHAT_ROUTE, MESSAGES_ROUTE, Case
from benchmarks.processes import answers, free_port, process
from benchmarks.targets import ROOT

USAGE = {"promptTokenCount": 20, "candidatesTokenCount": 90, "totalTokenCount": 110}
PICTURE = {"mimeType": "image/png", "data": base64.b64encode(secrets.token_bytes(2_100_000)).decode()}
CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 90, "total_tokens": 110},
}  # fmt: skip
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_sequence": None,
    "content": [{"type": "text", "text": "x" * 400}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 20, "output_tokens": 90},
}  # fmt: skip
PARTS = {"gemini-2.5-flash": {"text": "x" * 400}, "gemini-2.5-flash-image": {"inlineData": PICTURE}}
CA, CERTIFICATE, SECRET = "ca.pem", "upstream.pem", "upstream.key"


@contextlib.contextmanager
def upstream(folder: Path, *, tls: bool) -> Iterator[Callable[[Case], dict[str, str]]]:
    """Both upstreams; the value gives the settings that lead a gateway to the one that the case needs."""
    scheme, settings = "http", {}
    if tls:
        make_certificates(folder)
        scheme, settings = "https", {"GATEWAY_UPSTREAM_CA_FILE": str(folder / CA)}
    with files(folder, tls=tls) as fixed, streams(folder, tls=tls) as streaming:
        yield (
            lambda case: (
                settings | {"GATEWAY_UPSTREAM_URL": f"{scheme}://127.0.0.1:{streaming if case.events > 1 else fixed}"}
            )
        )


@contextlib.contextmanager
def files(folder: Path, *, tls: bool) -> Iterator[int]:
    """A file for each model; the value is the port."""
    port = free_port()
    for model, part in PARTS.items():
        answer = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "usageMetadata": USAGE}
        (folder / f"{model}.json").write_text(json.dumps(answer))
    (folder / "chat.json").write_text(json.dumps(CHAT))
    (folder / "message.json").write_text(json.dumps(MESSAGE))
    keys = f"ssl_certificate {folder / CERTIFICATE}; ssl_certificate_key {folder / SECRET};"
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{ access_log off; default_type application/json; keepalive_requests 10000000; client_max_body_size 64m;
          client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
          uwsgi_temp_path {folder}; scgi_temp_path {folder}; client_body_buffer_size 8m;
          server {{ listen 127.0.0.1:{port} {"ssl" * tls}; {keys * tls} root {folder}; error_page 405 =200 $uri;
            location = {CHAT_ROUTE} {{ rewrite ^ /chat.json break; }}
            location = {MESSAGES_ROUTE} {{ rewrite ^ /message.json break; }}
            location ~ ^/v1beta/models/(?<model>[a-z0-9.-]+):generateContent$ {{ rewrite ^ /$model.json break; }} }} }}""")
    folder.chmod(0o755)  # nginx's worker is another user
    with process(
        "nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), ready=partial(answers, port), cwd=folder
    ):
        yield port


@contextlib.contextmanager
def streams(folder: Path, *, tls: bool) -> Iterator[int]:
    """The source of streams; the value is its port."""
    port = free_port()
    keys = (str(folder / CERTIFICATE), str(folder / SECRET)) * tls
    with process(sys.executable, "-m", "benchmarks.events", str(port), *keys, ready=partial(answers, port), cwd=ROOT):
        yield port


def make_certificates(folder: Path) -> None:
    """A CA, and a certificate of 127.0.0.1 signed by it."""
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    ca, ca_key = str(folder / CA), str(folder / "ca.key")
    ours = ("-CA", ca, "-CAkey", ca_key, "-addext", "basicConstraints=critical,CA:FALSE")
    name = ("-subj", "/CN=upstream", "-addext", "subjectAltName=IP:127.0.0.1")
    for argv in (
        (*new, "-subj", "/CN=bench", "-keyout", ca_key, "-out", ca),
        (*new, *ours, *name, "-keyout", str(folder / SECRET), "-out", str(folder / CERTIFICATE)),
    ):
        subprocess.run(argv, check=True, capture_output=True)
