"""Serves the bare repositories below a folder over HTTP with dulwich; says the port on standard output."""

import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import make_server

from dulwich.server import FileSystemBackend
from dulwich.web import WSGIRequestHandlerLogger, WSGIServerLogger, make_wsgi_chain


class Below(FileSystemBackend):
    """Paths of URLs begin with a slash and are meant from the root."""

    def open_repository(self, path):
        return super().open_repository(os.fsdecode(path).lstrip("/"))


class Server(ThreadingMixIn, WSGIServerLogger):
    daemon_threads = True


server = make_server(
    "127.0.0.1", 0, make_wsgi_chain(Below(sys.argv[1])), server_class=Server, handler_class=WSGIRequestHandlerLogger
)
print(server.server_port, flush=True)
server.serve_forever()
