"""Every line of the README's table of tools that can be run is run, set as written there and in no other way."""

import sys
from pathlib import Path

import pytest

from tests.sdks.driving import INSTALLED, beside_modules, node, require, run
from tests.sdks.written import ROWS, code, variables
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

OPENAI = """
from openai import OpenAI
asked = [{"role": "user", "content": "Hello"}]
print(OpenAI().chat.completions.create(model="gpt-5.4-mini", messages=asked).choices[0].message.content)
"""
ANTHROPIC = """
from anthropic import Anthropic
asked = [{"role": "user", "content": "Hello"}]
print(Anthropic().messages.create(model="claude-opus-4-6", max_tokens=200, messages=asked).content[0].text)
"""
GOOGLE = """
from google import genai
client = genai.Client()
print(client.models.generate_content(model="gemini-2.5-flash", contents="Hello").text)
"""
LANGCHAIN_OPENAI = """
from langchain_openai import ChatOpenAI
print(ChatOpenAI(model="gpt-5.4-mini").invoke("Hello").text)
"""
LANGCHAIN_ANTHROPIC = """
from langchain_anthropic import ChatAnthropic
print(ChatAnthropic(model="claude-opus-4-6").invoke("Hello").text)
"""
LITELLM = """
import litellm
asked = [{"role": "user", "content": "Hello"}]
print(litellm.completion(model="%s", messages=asked).choices[0].message.content)
"""
PYTHON = {
    "google": ("google-genai, @google/genai", sys.executable, GOOGLE),
    "openai": ("openai, for Python and Node", "newest", OPENAI),
    "openai 2": ("openai, for Python and Node", "older", OPENAI),
    "anthropic": ("anthropic, @anthropic-ai/sdk", "newest", ANTHROPIC),
    "anthropic 0": ("anthropic, @anthropic-ai/sdk", "older", ANTHROPIC),
    "langchain-openai": ("langchain-openai", "frameworks", LANGCHAIN_OPENAI),
    "langchain-anthropic": ("langchain-anthropic", "frameworks", LANGCHAIN_ANTHROPIC),
    "litellm openai": ("litellm, `openai/…`", "frameworks", LITELLM % "openai/gpt-5.4-mini"),
    "litellm anthropic": ("litellm, `anthropic/…`", "frameworks", LITELLM % "anthropic/claude-opus-4-6"),
}
NODE = {
    "google": (
        "google-genai, @google/genai",
        """
import { GoogleGenAI } from "@google/genai";
const asked = { model: "gemini-2.5-flash", contents: "Hello" };
console.log((await new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY }).models.generateContent(asked)).text);
""",
    ),
    "openai": (
        "openai, for Python and Node",
        """
import OpenAI from "openai";
console.log((await new OpenAI().responses.create({ model: "gpt-5.4-mini", input: "Hello" })).output_text);
""",
    ),
    "anthropic": (
        "anthropic, @anthropic-ai/sdk",
        """
import Anthropic from "@anthropic-ai/sdk";
const messages = [{ role: "user", content: "Hello" }];
const answer = await new Anthropic().messages.create({ model: "claude-opus-4-6", max_tokens: 200, messages });
console.log(answer.content[0].text);
""",
    ),
    "ai-sdk openai": (
        "@ai-sdk/openai",
        """
import { openai } from "@ai-sdk/openai";
import { generateText } from "ai";
console.log((await generateText({ model: openai("gpt-5.4-mini"), prompt: "Hello" })).text);
""",
    ),
    "ai-sdk anthropic": (
        "@ai-sdk/anthropic",
        """
import { anthropic } from "@ai-sdk/anthropic";
import { generateText } from "ai";
console.log((await generateText({ model: anthropic("claude-opus-4-6"), prompt: "Hello" })).text);
""",
    ),
}
COMPATIBLE = """
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText } from "ai";
const provider = %s;
console.log((await generateText({ model: provider("gpt-5.4-mini"), prompt: "Hello" })).text);
"""
RUN_ELSEWHERE = {"Claude Code", "Codex CLI", "Gemini CLI"}  # in modules of their own
NOT_RUN = {"Cherry Studio"}


async def answer(argv: list[str], folder: Path, **variables: str) -> str:
    """What a program prints that must end well."""
    ended = await run(argv, folder / "home", cwd=folder, LITELLM_LOCAL_MODEL_COST_MAP="True", **variables)
    assert 0 == ended.status, ended.errors
    return ended.output


async def answer_of_node(script: str, folder: Path, **variables: str) -> str:
    """What a script for Node prints."""
    beside_modules(folder)
    (folder / "example.mjs").write_text(script)
    return await answer([node(), "example.mjs"], folder, **variables)


@pytest.mark.parametrize("name", PYTHON)
async def test_python(gateway: Gateway, tmp_path: Path, name: str) -> None:
    """README: a Python SDK finds the gateway with the variables of its row."""
    tool, place, script = PYTHON[name]
    python = place if place == sys.executable else str(require(INSTALLED / place / ".installed").parent / "bin/python")
    said = await answer([python, "-c", script], tmp_path, **variables(tool, gateway))
    assert "Hello from the sandbox!" in said


@pytest.mark.parametrize("name", NODE)
async def test_node(gateway: Gateway, tmp_path: Path, name: str) -> None:
    """README: an SDK for Node finds the gateway with the variables of its row."""
    tool, script = NODE[name]
    assert "Hello from the sandbox!" in await answer_of_node(script, tmp_path, **variables(tool, gateway))


async def test_compatible_provider(gateway: Gateway, tmp_path: Path) -> None:
    """README: the AI SDK's provider for whatever is like OpenAI takes the code of its row."""
    script = COMPATIBLE % code("@ai-sdk/openai-compatible", gateway)
    assert "Hello from the sandbox!" in await answer_of_node(script, tmp_path)


async def test_curl(gateway: Gateway, tmp_path: Path) -> None:
    """README: curl, as written in its row."""
    assert "Hello from the sandbox!" in await answer(["sh", "-c", code("curl", gateway)], tmp_path)


async def test_every_row_is_run() -> None:
    """README: no row of the table is without a test, but for those that say so."""
    run_here = {tool for tool, *_ in [*PYTHON.values(), *NODE.values()]} | {"curl", "@ai-sdk/openai-compatible"}
    assert set(ROWS) - {"tool"} == run_here | RUN_ELSEWHERE | NOT_RUN
    assert all("not run" in ROWS[tool] for tool in NOT_RUN)
