"""A small page for one run: type what is wanted, and see or hear student and teacher side by side.

One draw at a time; no resource from outside; every wrong entry is told at once, beside the control it belongs to.
"""

from __future__ import annotations

import itertools
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from fewstep.errors import FewstepError
from fewstep.protocol import Drawn, Piece, Stream
from fewstep.runs import media, story
from fewstep.runs.campaign import cautions_of
from fewstep.runs.forms import form, typed
from fewstep.runs.handle import Run, examined
from fewstep.runs.report import shown_panel, template

MOST = 16
"""Samples of one draw."""

WAITING = 16
"""Streams that were asked for and may still be fetched."""

LARGEST = 20_000_000
"""Bytes of a file that the page still offers to save."""


class Desk:
    """Answers for one run, one draw at a time.

    Args:
        run: finished.
    """

    def __init__(self, run: Run) -> None:
        """Nothing is drawn yet."""
        self.run = run
        self._turn = threading.Lock()
        self._numbers = itertools.count()
        self._streams: dict[int, dict[str, Any]] = {}

    @property
    def stream(self) -> Stream | None:
        """What the product streams, if anything."""
        return self.run.product.stream

    def page(self) -> str:
        """The page itself."""
        product, setup = self.run.product, self.run.setup
        contenders = [(name, name in ("student", "teacher")) for name in product.contenders]
        return template("serve.html.j2").render(
            name=setup.recipe.name,
            run_name=self.run.folder.name,
            summary=setup.recipe.spec.summary,
            controls=form(product.options),
            contenders=contenders,
            most=MOST,
            stream=self.stream,
        )

    def draw(self, given: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer: what the contenders drew, or all that is wrong with what was asked."""
        asked, wrong = _checked(self.run.product.options, given)
        wrong += _problems(given, self.run)
        if wrong:
            return 422, _told(wrong)
        drawn = {}
        try:
            for name in given["contenders"]:
                with self._turn:
                    steps = _whole(given.get("steps")) if name == "student" else None
                    drawn[name] = self.run.drawn(
                        asked,
                        _whole(given.get("num")) or 1,
                        seed=_whole(given.get("seed")) or 0,
                        steps=steps,
                        contender=name,
                    )
        except FewstepError as error:
            return 422, _told([("", str(error))])
        return 200, {"cautions": cautions_of(asked), **self._shown(drawn)}

    def begin(self, given: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer: where the stream may be fetched, or all that is wrong."""
        if self.stream is None:
            return 404, _told([("", "this recipe has no stream")])
        asked, wrong = _checked(self.stream.options, given)
        wrong += [one for one in _problems(given, self.run) if one[0] in ("seed", "steps")]
        if wrong:
            return 422, _told(wrong)
        number = next(self._numbers)
        self._streams[number] = dict(given)
        for old in list(self._streams)[:-WAITING]:
            del self._streams[old]
        return 200, {"url": f"/stream/{number}", "mime": self.stream.mime, "cautions": cautions_of(asked)}

    def pieces(self, number: int) -> Iterator[bytes] | None:
        """The content of a stream that was asked for; None if there is no such."""
        given = self._streams.get(number)
        if given is None or self.stream is None:
            return None
        options = typed(self.stream.options, given.get("options", {}))
        seed, steps = _whole(given.get("seed")) or 0, _whole(given.get("steps"))
        return self._in_turn(self.run.stream(seed=seed, steps=steps, **options))

    def _in_turn(self, pieces: Iterator[Piece]) -> Iterator[bytes]:
        """Each piece is drawn in its own turn, so that others are not kept waiting by a long stream."""
        while True:
            with self._turn:
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece.content

    def _shown(self, drawn: Mapping[str, Drawn]) -> dict[str, Any]:
        rows = [
            {"name": name, "calls": item.evaluations, "seconds": story.number(item.seconds)}
            for name, item in drawn.items()
        ]
        panels = [
            {"title": panel.title, "html": _html(shown_panel(panel, drawn))}
            for panel in self.run.product.panels
        ]
        return {"rows": rows, "panels": panels, "files": [self._files(n, d) for n, d in drawn.items()]}

    def _files(self, name: str, drawn: Drawn) -> dict[str, str]:
        """The native files of one contender, to save."""
        with tempfile.TemporaryDirectory(prefix="fewstep-") as folder:
            files = self.run.product.write(drawn.x, drawn.batch, Path(folder))
            links = [
                media.download("application/octet-stream", file.read_bytes(), f"{name}-{file.name}")
                for file in files
                if file.stat().st_size <= LARGEST
            ]
        return {"name": name, "html": " ".join(links)}


def application(run: Run, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> Any:
    """The web application of a run.

    Args:
        run: finished.
        hosts: names under which it may be asked, so that no other page can pretend to be it; ("*",) for any.

    Raises:
        FewstepError: FastAPI is not installed.
    """
    require()
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    desk = Desk(run)
    # Its own documentation pages would load scripts from elsewhere.
    app = FastAPI(title=run.name, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    def page() -> Any:
        return HTMLResponse(desk.page())

    def draw(given: dict[str, Any]) -> Any:
        status, answer = desk.draw(given)
        return JSONResponse(answer, status)

    def begin(given: dict[str, Any]) -> Any:
        status, answer = desk.begin(given)
        return JSONResponse(answer, status)

    def stream(number: int) -> Any:
        pieces = desk.pieces(number)
        if pieces is None or desk.stream is None:
            return Response("no such stream", 404)
        return StreamingResponse(pieces, media_type=desk.stream.mime, headers={"Cache-Control": "no-store"})

    app.get("/")(page)
    app.post("/draw")(draw)
    app.post("/stream")(begin)
    app.get("/stream/{number}")(stream)
    return app


def require() -> None:
    """Find out before a run is opened whether it can be served.

    Raises:
        FewstepError: a package is missing.
    """
    absent = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if absent:
        raise FewstepError(f"serving needs {' and '.join(absent)}", "", 'pip install "fewstep[serve]"')


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any free one.

    Raises:
        FewstepError: the port is taken or the address is not ours.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise FewstepError(
            f"cannot listen at {host}:{port}: {error.strerror or error}",
            "a free port on an address of this machine",
            "choose another --port; --port 0 takes a free one",
        ) from error


def serve(run: Run, host: str, listening: socket.socket) -> None:
    """Answer until Ctrl-C."""
    require()
    import uvicorn

    hosts = ("127.0.0.1", "localhost", host) if _is_local(host) else ("*",)
    config = uvicorn.Config(application(run, hosts), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(model: Any, given: Mapping[str, Any]) -> tuple[Any, list[tuple[str, str]]]:
    options = given.get("options", {})
    if not isinstance(options, Mapping):
        return None, [("", f"options are {options!r}, not a mapping")]
    asked, wrong = examined(model, typed(model, options))
    return asked, [(name.replace("-", "_"), text) for name, text in wrong]


def _problems(given: Mapping[str, Any], run: Run) -> list[tuple[str, str]]:
    """What is wrong with what every product is asked."""
    wrong = []
    for name, low, high in (("seed", 0, 2**31), ("steps", 1, 1000), ("num", 1, MOST)):
        try:
            value = _whole(given.get(name))
        except (TypeError, ValueError, OverflowError):
            wrong.append((name, f"a whole number is expected, got {given.get(name)!r}"))
            continue
        if value is not None and not low <= value <= high:
            wrong.append((name, f"a number from {low} to {high} is expected, got {value}"))
    chosen = given.get("contenders", [])
    if not isinstance(chosen, list) or not chosen:
        wrong.append(("contenders", "choose at least one"))
    else:
        known = list(
            run.product.contenders
        )  # what was sent may be of any kind, a list too, which no mapping looks up
        unknown = [name for name in chosen if name not in known]
        wrong += [("contenders", f"no contender {name!r}") for name in unknown]
    return wrong


def _whole(value: Any) -> int | None:
    """A whole number; None if nothing was typed."""
    return None if value in ("", None) else int(value)


def _told(wrong: list[tuple[str, str]]) -> dict[str, Any]:
    return {"problems": [{"name": name, "text": text} for name, text in wrong]}


def _html(inner: Any) -> str:
    """A fragment as HTML; a message in place of one is escaped."""
    from markupsafe import escape

    return str(escape(inner))
