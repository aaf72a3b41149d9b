"""Writes the API's reference: `python -m contract.reference`, to where `REFERENCE` is.

It is the OpenAPI document, and a page to read it by that is plain HTML: no script, and nothing from
elsewhere.
"""

import json
import re
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path

from contract.folders import REFERENCE
from contract.json_schema import Json
from contract.openapi import openapi

_STYLE = Path(__file__).with_name("reference.css")
_CODE = re.compile(r"`([^`]+)`")
_LIST = re.compile(r"^- ", re.MULTILINE)


def write_reference(folder: Path) -> None:
    """Writes `openapi.json`, `index.html` and `style.css` into a folder."""
    document = openapi()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openapi.json").write_text(json.dumps(document, indent=1, ensure_ascii=False))
    (folder / "index.html").write_text(page(document))
    shutil.copyfile(_STYLE, folder / "style.css")


def page(document: Json) -> str:
    """An OpenAPI document as a page."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{escape(document['info']['title'])}: API reference</title>",
            '<link rel="stylesheet" href="reference/style.css">\n</head>\n<body>\n<main>',
            f"<h1>{escape(document['info']['title'])}: API reference</h1>",
            _prose(document["info"]["description"]),
            '<p>As a document for programs: <a href="openapi.json">OpenAPI 3.1</a>.</p>',
            *_contents(document),
            *_services(document),
            '<h2 id="schemas">Types</h2>',
            *_schemas(document["components"]["schemas"]),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _contents(document: Json) -> Iterator[str]:
    yield '<nav aria-label="Calls">\n<ul>'
    for operation in _operations(document):
        name = operation["operationId"]
        yield f'<li><a href="#{name}">{name}</a></li>'
    yield '<li><a href="#schemas">Types</a></li>\n</ul>\n</nav>'


def _services(document: Json) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        yield _prose(tag["description"])
        for path, verbs in document["paths"].items():
            for verb, operation in verbs.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _operation(verb.upper(), path, operation)


def _operations(document: Json) -> Iterator[Json]:
    for verbs in document["paths"].values():
        yield from verbs.values()


def _operation(verb: str, path: str, operation: Json) -> Iterator[str]:
    name = operation["operationId"]
    yield f'<section aria-labelledby="{name}">\n<h3 id="{name}">{name}</h3>'
    yield f'<p class="route"><code><span class="verb">{verb}</span> {escape(path)}</code></p>'
    yield _prose(operation["description"])
    for where, heading in (("path", "In the path"), ("query", "In the query")):
        parameters = {
            one["name"]: one["schema"] | {"description": one["description"]}
            for one in operation["parameters"]
            if one["in"] == where
        }
        if parameters:
            yield f"<h4>{heading}</h4>"
            yield from _fields(parameters, set())
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        listed = schema.get("type") == "array"
        schema = schema["items"] if listed else schema
        yield f"<h4>In the body{', a list of' if listed else ''}</h4>"
        if "properties" in schema:
            yield from _fields(schema["properties"], set(schema.get("required", ())))
        else:
            yield _prose(schema["description"])
    yield "<h4>Answer</h4>\n<dl>"
    for status, answer in operation["responses"].items():
        link = _type(answer["content"]["application/json"]["schema"])
        yield f"<dt><code>{status}</code> {link}</dt>\n<dd>{_prose(answer['description'])}</dd>"
    yield "</dl>"
    for sample in operation["x-codeSamples"]:
        yield f"<pre><code>{escape(sample['source'])}</code></pre>"
    yield "</section>"


def _schemas(schemas: Json) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f'<section aria-labelledby="{name}">\n<h3 id="{name}">{name}</h3>'
        yield _prose(schema["description"])
        yield from _fields(schema.get("properties", {}), set())
        yield "</section>"


def _fields(properties: Json, required: set[str]) -> Iterator[str]:
    if not properties:
        return
    yield "<dl>"
    for name, schema in properties.items():
        needed = ", required" if name in required else ""
        kind = f'<span class="quiet">{_type(schema)}{needed}</span>'
        yield f"<dt><code>{escape(name)}</code> {kind}</dt>"
        yield f"<dd>{_prose(schema.get('description', ''))}</dd>"
    yield "</dl>"


def _type(schema: Json) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    kind = schema.get("format") or schema.get("type") or "constant"
    return f"{escape(kind)}{_bounds(schema)}"


def _bounds(schema: Json) -> str:
    if "const" in schema:
        return f", <code>{escape(schema['const'])}</code>"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if most is not None:
        return f", {least or 0} to {most} characters"
    return ""


def _prose(text: str) -> str:
    """Paragraphs and lists, with code between backticks."""
    return "\n".join(_block(block) for block in text.split("\n\n") if block.strip())


def _block(block: str) -> str:
    written = _CODE.sub(r"<code>\1</code>", escape(block, quote=False))
    before, *items = _LIST.split(written)
    listed = "".join(f"<li>{item.strip()}</li>" for item in items)
    paragraph = f"<p>{before.strip()}</p>" if before.strip() else ""
    return paragraph + (f"<ul>{listed}</ul>" if listed else "")


if __name__ == "__main__":
    write_reference(REFERENCE)
