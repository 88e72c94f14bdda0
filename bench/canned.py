"""A webhook that decides nothing: the same TLS, aiohttp and uvloop, and always the same patch.

What it leaves out is what Batten's decision costs.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

import msgspec
import uvloop
from aiohttp import web

from batten_webhooks.review import respond, under
from bench import reviews


class _Request(msgspec.Struct):
    uid: str


class _Review(msgspec.Struct):
    request: _Request


async def main(folder: str) -> None:
    decoder = msgspec.json.Decoder(_Review)
    canned = json.loads(respond("mutate", reviews.plain(), under(reviews.POLICY)).body)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        canned["response"]["uid"] = decoder.decode(await request.read()).request.uid
        return web.Response(body=msgspec.json.encode(canned), content_type="application/json")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        web.Server(answer, access_log=None), "127.0.0.1", 0, ssl=context
    )
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"message": "serving", "address": f"{host}:{port}"}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1]))
