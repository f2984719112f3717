"""A guest in namespaces of its own, for tests: it has the address of its port, runs the script of its user data, and
reaches Nova's metadata service at 169.254.169.254 as through Neutron's agent. Its console is a file.

guest.py SCRIPT CONSOLE ADDRESS URL SECRET UUID PROJECT; without ADDRESS DHCP gave it nothing, without URL nobody is at
169.254.169.254.
"""
import ctypes
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

script, console, address, url, secret, uuid, project = sys.argv[1:]
NEWNS, NEWNET = 0x00020000, 0x40000000


def inside(way):
    if ctypes.CDLL(None, use_errno=True).unshare(NEWNS | NEWNET):
        raise OSError(ctypes.get_errno(), 'unshare')
    todo = ['mount --make-rprivate /', f'mount --bind {console} /dev/console', 'ip link set lo up',
            'ip addr add 169.254.169.254/32 dev lo scope link']
    if address:
        todo.append(f'ip addr add {address}/32 dev lo')
    for command in todo:
        subprocess.run(command.split(), check=True)
    door = socket.socket()
    if url:
        door.bind(('169.254.169.254', 80))
        door.listen()
    socket.send_fds(way, [b'.'], [door.fileno()])
    return subprocess.run(['sh', script]).returncode


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        headers = {'X-Instance-ID': uuid, 'X-Tenant-ID': project, 'X-Forwarded-For': address,
                   'X-Instance-ID-Signature': hmac.new(secret.encode(), uuid.encode(), hashlib.sha256).hexdigest()}
        with urllib.request.urlopen(urllib.request.Request(url + self.path, headers=headers)) as answer:
            text = answer.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)


ours, theirs = socket.socketpair()
child = os.fork()
if child == 0:
    os._exit(inside(theirs))
theirs.close()
_, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
if url:
    agent = HTTPServer(('127.0.0.1', 0), Agent, bind_and_activate=False)
    agent.socket.close()
    agent.socket = socket.socket(fileno=fd)
    threading.Thread(target=agent.serve_forever, daemon=True).start()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
