"""``GET /docs``: the interface in a browser, to be read and tried out with Swagger UI.

Swagger UI comes from elsewhere, and runs where the service's own pages would: it could do whatever the keys that are
typed into it are good for. So it is one version, the browser holds it against its hash, and the page may load nothing
else and call nobody but the service. To renew it, take the hashes from the package itself: ``npm pack
swagger-ui-dist@VERSION``, then ``openssl dgst -sha384 -binary FILE | base64``.
"""

import hashlib
from base64 import b64encode

from fastapi import Request
from fastapi.responses import HTMLResponse

VERSION = "5.34.0"
PLACE = f"https://cdn.jsdelivr.net/npm/swagger-ui-dist@{VERSION}"
SCRIPT = f"{PLACE}/swagger-ui-bundle.js"
SCRIPT_HASH = "sha384-9Td7MKiIr2S83E1kZyyVi8KdJw/S8CpAvu0llLyMeg0xq/hDGiZJfVn0fV4llCmK"
STYLE = f"{PLACE}/swagger-ui.css"
STYLE_HASH = "sha384-4c3vsE5f+trhFyHrFrLM1fFGUn531NIaC7dcqEWIJdoRQJ5CkJbSuSCwXLpaS1KF"

BEGIN = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#interface", deepLinking: true});'
"""The address is relative, for a proxy may have put the service below a path."""
BEGIN_HASH = f"sha256-{b64encode(hashlib.sha256(BEGIN.encode()).digest()).decode()}"

PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Atelier</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{STYLE}" integrity="{STYLE_HASH}" crossorigin="anonymous">
</head>
<body>
<div id="interface">
<p>This page shows the interface with Swagger UI {VERSION}, which your browser loads from cdn.jsdelivr.net.
Without it, for want of internet, there is the description itself: <a href="openapi.json">openapi.json</a>.</p>
</div>
<script src="{SCRIPT}" integrity="{SCRIPT_HASH}" crossorigin="anonymous"></script>
<script>{BEGIN}</script>
</body>
</html>
"""

POLICY = "; ".join(
    [
        "default-src 'none'",
        f"script-src {SCRIPT} '{BEGIN_HASH}'",
        f"style-src {STYLE} 'unsafe-inline'",  # it styles its elements one by one
        "img-src 'self' data: blob:",  # its icons, and the pictures that are answered
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


async def swagger(_: Request) -> HTMLResponse:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})
