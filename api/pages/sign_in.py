"""Signing in with a key, and out. Plain HTML without a script: a key is in one request only."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from string import Template

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from api.errors import ApiError
from api.pages.door import PREFIX, SESSION, SIGN_IN, SIGN_OUT
from api.pages.sessions import Sessions, Visitor

PATHS = (PREFIX + SIGN_IN, PREFIX + SIGN_OUT)
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
LARGEST_FORM = 4_096
"""Bytes; a key has 64 characters."""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in · $title</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid;
         place-items: center;
         background: light-dark(#f4f6f5, #14191a); color: light-dark(#1c2423, #e8edec); }
  main { width: min(26rem, 100vw - 2rem); padding: 2rem; box-sizing: border-box;
         background: light-dark(#fff, #1e2526);
         border-radius: 12px; box-shadow: 0 1px 8px rgb(0 0 0 / .12); }
  h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
  p { margin: 0 0 1.25rem; }
  label { display: block; font-weight: 600; margin-bottom: .25rem; }
  input { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem .7rem;
          border: 1px solid light-dark(#6b7977, #8b9997); border-radius: 6px;
          background: transparent; color: inherit; }
  button { font: inherit; font-weight: 600; margin-top: 1rem; width: 100%; padding: .6rem;
           border: 0; border-radius: 6px; background: #14655a; color: #fff; cursor: pointer; }
  [role=alert] { color: light-dark(#a4160d, #ffb4ab); font-weight: 600; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$hint</p>
$alert
<form method="post" action="$action" autocomplete="off">
<label for="key">Key</label>
<input id="key" name="key" type="password" required autofocus maxlength="200" spellcheck="false">
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
""")


def sign_in_app(
    title: str, hint: str, sessions: Sessions, identify: Callable[[str], Visitor]
) -> Starlette:
    """The pages in PATHS; `identify` raises ApiError for what is no key."""

    def page(alert: str = "", status: int = 200) -> HTMLResponse:
        shown = f'<p role="alert">{escape(alert)}</p>' if alert else ""
        made = _PAGE.substitute(
            title=escape(title), hint=escape(hint), alert=shown, action=PREFIX + SIGN_IN
        )
        return HTMLResponse(made, status, {"Content-Security-Policy": POLICY})

    async def show(_request: Request) -> Response:
        return page()

    async def sign_in(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or int(length) > LARGEST_FORM:
            return page("That is no key.", 400)
        async with request.form(max_files=0, max_fields=4) as form:
            key = form.get("key")
        try:
            visitor = await to_thread.run_sync(identify, str(key or "").strip())
        except ApiError as error:
            return page(f"{error.message[:1].upper()}{error.message[1:]}.", error.status)
        # All that the browser held before is replaced: an id planted there is worth nothing.
        sessions.close(request.session.get(SESSION))
        request.session.clear()
        request.session[SESSION] = sessions.open(visitor)
        return RedirectResponse(f"{PREFIX}/", 303)

    async def sign_out(request: Request) -> Response:
        sessions.close(request.session.get(SESSION))
        request.session.clear()
        return RedirectResponse(PREFIX + SIGN_IN, 303)

    return Starlette(
        routes=[
            Route(PREFIX + SIGN_IN, show, methods=["GET"]),
            Route(PREFIX + SIGN_IN, sign_in, methods=["POST"]),
            Route(PREFIX + SIGN_OUT, sign_out, methods=["POST"]),
        ]
    )
