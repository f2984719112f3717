"""A management controller made with pyghmi, for one machine of a test.

Usage: pyghmi_bmc.py ADDRESS PORT USER PASSWORD SOCKET
The machine is asked and switched by lines on a unix socket.
"""
import socket
import sys

import pyghmi.ipmi.bmc as bmc


class Controller(bmc.Bmc):
    def __init__(self, users, address, port, path):
        super().__init__(users, port=port, address=address)
        self.path = path

    def ask(self, line):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.connect(self.path)
            s.sendall(line.encode() + b"\n")
            answer = b""
            while part := s.recv(4096):
                answer += part
        return answer.decode().strip()

    def get_power_state(self):
        return "on" if self.ask("get power") == "ok power:1" else "off"

    def power_off(self):
        return 0 if self.ask("set power 0").startswith("ok") else 0xFF

    def power_on(self):
        return 0 if self.ask("set power 1").startswith("ok") else 0xFF


address, port, user, password, path = sys.argv[1:]
Controller({user: password}, address, int(port), path).listen()
