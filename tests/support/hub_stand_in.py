"""A stand-in of the Hugging Face Hub on the loopback: an HTTP server with model repositories in memory.

It answers those requests that huggingface_hub makes to look at a repository, to create, fill and delete one, and to
download a file, in the forms of huggingface_hub 2.4. The checks of a card's metadata are those of the Hub that a card
of prunecast could fail.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens of one who may write to the repositories of ``someone``, and of one who may only read."""

_DATA_SET_ID = re.compile(r"(?:[\w-]+/)?[\w.-]+")
_RELATIONS = {"adapter", "merge", "quantized", "finetune"}

Files = dict[str, bytes]


@dataclass
class Repository:
    """A repository: all its commits, each with the files at that time; those in ``lfs`` are large."""

    private: bool = False
    commits: list[tuple[str, Files]] = field(default_factory=list)
    lfs: set[str] = field(default_factory=set)

    def commit(self, files: Files) -> str:
        """Add a commit with these files; returns its id."""
        number = hashlib.sha1(f"{len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits.append((number, files))
        return number

    @property
    def files(self) -> Files:
        """Files at the newest commit."""
        return self.commits[-1][1]


class Hub:
    """The state of the stand-in.

    Attributes:
        address: value of ``HF_ENDPOINT``.
        repositories: by ``owner/name``.
        requests: every request, e.g. ``POST /api/repos/create``.
        faults: by request, the status that answers it instead of what would be right.
        meanwhile: by request, what somebody else does just before it is answered.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: dict[str, int] = {}
        self.meanwhile: dict[str, Callable[[], object]] = {}

    def holding(self, name: str, files: Files) -> Repository:
        """A new public repository with these files."""
        self.repositories[name] = Repository()
        self.repositories[name].commit(files)
        return self.repositories[name]

    @property
    def writes(self) -> list[str]:
        """Requests that could change something."""
        return [request for request in self.requests if not request.startswith(("GET", "HEAD"))]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A stand-in that runs inside the context."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}")
        server.hub = hub  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", **answer: Any) -> None:
        self.status, self.code, self.answer = status, code, answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def log_message(self, *rest: object) -> None:
        pass

    def answer(self) -> None:
        """Answer a request by the first route that fits it."""
        body = self.body()
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        self.hub.meanwhile.get(request, lambda: None)()
        try:
            for pattern, status in self.hub.faults.items():
                if re.fullmatch(pattern, request):
                    raise _Refused(status, error="a fault")
            for pattern, route in _ROUTES.items():
                if found := re.fullmatch(pattern, request):
                    self.send(200, route(self, *found.groups(), *([] if self.command in ("GET", "HEAD") else [body])))
                    return
            raise _Refused(404, error=f"the stand-in does not know {request}")
        except _Refused as refused:
            self.send(refused.status, refused.answer, **({"X-Error-Code": refused.code} if refused.code else {}))

    def body(self) -> bytes:
        """Content of the request, sent whole or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def send(self, status: int, answer: Any, **headers: str) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 200 and isinstance(answer, bytes) and "/resolve/" in self.path:
            headers |= {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": urlsplit(self.path).path.split("/")[4]}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # ------------------------------------------------------------------------------------------------------- rights

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self, name: str) -> None:
        if self.token not in (WRITER, READER):
            raise _Refused(401, error="Invalid username or password.")
        if self.token != WRITER or not name.startswith("someone/"):
            raise _Refused(403, error="You don't have the required permissions")

    def repository(self, name: str) -> Repository:
        """A repository that the token's owner may see."""
        if self.token not in (WRITER, READER, ""):
            raise _Refused(401, error="Invalid credentials in Authorization header")
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self.token != WRITER):
            raise _Refused(404, "RepoNotFound", error="Repository not found")
        return found

    # ------------------------------------------------------------------------------------------------------- routes

    def create(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        self.may_write(name)
        if name in self.hub.repositories:
            raise _Refused(409, error="You already created this model repo")
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.hub.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        return {"url": f"{self.hub.address}/{name}"}

    def delete(self, body: bytes) -> Any:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        self.may_write(name)
        self.repository(name)
        del self.hub.repositories[name]
        return {}

    def settings(self, name: str, body: bytes) -> Any:
        self.may_write(name)
        self.repository(name).private = json.loads(body)["visibility"] == "private"
        return {}

    def info(self, name: str) -> Any:
        repository = self.repository(name)
        blobs = parse_qs(urlsplit(self.path).query).get("blobs") in (["True"], ["true"])
        siblings = [
            {"rfilename": file, **(_described(content, file in repository.lfs) if blobs else {})}
            for file, content in repository.files.items()
        ]
        return {"id": name, "sha": repository.commits[-1][0], "private": repository.private, "siblings": siblings}

    def resolve(self, name: str, revision: str, file: str) -> bytes:
        files = dict(self.repository(name).commits).get(revision, {})
        if file not in files:
            raise _Refused(404, "EntryNotFound", error="Entry not found")
        return files[file]

    def validate(self, body: bytes) -> Any:
        if errors := _wrong_in(json.loads(body)["content"]):
            raise _Refused(400, errors=[{"message": error} for error in errors], warnings=[])
        return {"errors": [], "warnings": []}

    def preupload(self, name: str, body: bytes) -> Any:
        self.may_write(name)
        here = self.repository(name).files
        asked = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in asked}
        oids = {path: _blob(here[path]) if path in here else None for path in asked}
        return {
            "files": [
                {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oids[path]}
                for path, mode in modes.items()
            ]
        }

    def batch(self, name: str, body: bytes) -> Any:
        self.may_write(name)
        objects = json.loads(body)["objects"]
        for each in objects:
            if each["oid"] not in self.hub.stored:
                each["actions"] = {"upload": {"href": f"{self.hub.address}/storage/{each['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def store(self, oid: str, body: bytes) -> Any:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _Refused(400, error="not the announced content")
        self.hub.stored[oid] = body
        return {}

    def commit(self, name: str, body: bytes) -> Any:
        self.may_write(name)
        repository = self.repository(name)
        header, *operations = map(json.loads, body.splitlines())
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != repository.commits[-1][0]:
            raise _Refused(412, error="A commit has happened since. Please refresh and try again.")
        files = dict(repository.files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
                repository.lfs.add(value["path"])
            else:
                del files[value["path"]]
        number = repository.commit(files)
        return {"commitUrl": f"{self.hub.address}/{name}/commit/{number}", "commitOid": number}


_ROUTES = {
    r"HEAD /": lambda handler: b"",
    r"POST /api/repos/create": _Handler.create,
    r"DELETE /api/repos/delete": _Handler.delete,
    r"PUT /api/models/([^/]+/[^/]+)/settings": _Handler.settings,
    r"GET /api/models/([^/]+/[^/]+)": _Handler.info,
    r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)": _Handler.resolve,
    r"POST /api/validate-yaml": _Handler.validate,
    r"POST /api/models/([^/]+/[^/]+)/preupload/main": _Handler.preupload,
    r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch": _Handler.batch,
    r"PUT /storage/(\w+)": _Handler.store,
    r"POST /api/models/([^/]+/[^/]+)/commit/main": _Handler.commit,
}


def _blob(content: bytes) -> str:
    """Id of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(content: bytes, is_large: bool) -> dict[str, Any]:
    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {"size": len(content), "blobId": _blob(content), **({"lfs": lfs} if is_large else {})}


def _wrong_in(card: str) -> list[str]:
    """What the Hub would refuse in the metadata of a card."""
    metadata = yaml.safe_load(card.split("---\n")[1])
    wrong = []
    if metadata.get("base_model_relation", "finetune") not in _RELATIONS:
        wrong.append('"base_model_relation" must be one of adapter, merge, quantized, finetune')
    if not isinstance(metadata.get("license", ""), str) or " " in metadata.get("license", ""):
        wrong.append('"license" must be one of the known licences')
    for model in metadata.get("model-index", []):
        for result in model["results"]:
            if not _DATA_SET_ID.fullmatch(result["dataset"]["type"]):
                wrong.append('"model-index[0].results[0].dataset.type" fails to match the required pattern')
            if not isinstance(result["dataset"].get("config", ""), str) or not result["metrics"]:
                wrong.append('"model-index[0].results[0]" is not valid')
    return wrong
