"""Placement on a port of 127.0.0.1, for tests."""
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from placement.wsgi import init_application

port, sys.argv = int(sys.argv[1]), sys.argv[:1]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def get_environ(self):
        env = super().get_environ()
        if not self.headers.get('content-type'):
            env.pop('CONTENT_TYPE', None)  # wsgiref invents one, which placement refuses
        return env


make_server('127.0.0.1', port, init_application(), server_class=Server, handler_class=Handler).serve_forever()
