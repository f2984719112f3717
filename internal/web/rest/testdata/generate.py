"""Generate a Python client from an OpenAPI document: generate.py < openapi.json > client.py

The client has a method for each operation, with keyword arguments for its parameters and for the fields of its body. It needs
nothing but Python's own library.
"""
import json
import keyword
import re
import sys

HEAD = '''"""A client of {title} {version}, generated from its OpenAPI document."""
import json
import urllib.error
import urllib.parse
import urllib.request


class Failed(Exception):
    """What the API has answered instead."""

    def __init__(self, status, error):
        super().__init__(error["message"])
        self.status, self.code, self.remedy = status, error["code"], error.get("remedy", "")


class Client:
    def __init__(self, url, token, context=None):
        self.url, self.token, self.context = url, token, context

    def _open(self, method, path, query, headers, body):
        query = {{k: {{True: "true", False: "false"}}.get(v, v) for k, v in query.items() if v is not None}}
        if query:
            path += "?" + urllib.parse.urlencode(query)
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", "Bearer " + self.token)
        for name, value in headers.items():
            if value is not None:
                request.add_header(name, value)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            return urllib.request.urlopen(request, context=self.context)
        except urllib.error.HTTPError as e:
            with e:
                if e.code == 304:
                    return None
                raise Failed(e.code, json.load(e)["error"]) from None

    def _call(self, *request):
        answer = self._open(*request)
        if answer is None:
            return None
        with answer:
            return json.load(answer)

    def _stream(self, *request):
        with self._open(*request) as answer:
            kind = "message"
            for line in answer:
                name, _, value = line.decode().rstrip("\\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "error":
                    raise Failed(200, json.loads(value)["error"])
                elif name == "data":
                    yield json.loads(value)
'''


def snake(name):
    name = re.sub(r"[^a-z0-9_]", "_", re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower())
    return name + "_" if keyword.iskeyword(name) else name


def fields(document, body):
    """The names of a body's fields."""
    if "$ref" in body:
        body = document["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]
    return sorted(body["properties"])


def operation(document, path, method, op):
    parameters = op.get("parameters", [])
    body = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    names = {"path": {}, "query": {}, "header": {}}
    for p in parameters:
        names[p["in"]][p["name"]] = snake(p["name"])
    inside = {f: snake(f) for f in fields(document, body)} if body is not None else {}
    optional = sorted((set(names["query"].values()) | set(names["header"].values()) | set(inside.values())) - set(names["path"].values()))
    arguments = ["self"] + list(names["path"].values()) + (["*"] + [o + "=None" for o in optional] if optional else [])
    yield f"    def {snake(op['operationId'])}({', '.join(arguments)}):"
    yield f"        {op['summary'] + '.'!r}"
    yield f"        path = {path!r}"
    for name, argument in names["path"].items():
        yield f"        path = path.replace({'{' + name + '}'!r}, urllib.parse.quote(str({argument}), safe=''))"

    def filled(of):
        return "{" + ", ".join(f"{name!r}: {argument}" for name, argument in of.items()) + "}"

    yield f"        body = {'None' if body is None else filled(inside)}"
    if body is not None:
        yield "        body = {name: value for name, value in body.items() if value is not None}"
    call = "_stream" if "text/event-stream" in op["responses"]["200"]["content"] else "_call"
    yield f"        return self.{call}({method.upper()!r}, path, {filled(names['query'])}, {filled(names['header'])}, body)"


def main():
    document = json.load(sys.stdin)
    assert document["openapi"].startswith("3.1."), document["openapi"]
    print(HEAD.format(**document["info"]))
    for path, operations in document["paths"].items():
        for method, op in operations.items():
            print("\n".join(operation(document, path, method, op)), end="\n\n")


if __name__ == "__main__":
    main()
