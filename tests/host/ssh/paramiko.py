"""Clones with dulwich over paramiko, and pushes a branch: URL, folder, private key."""

import sys, paramiko
from dulwich import porcelain, client
url, to, key = sys.argv[1:4]
class Channel:
    def __init__(self, ssh, channel):
        self.ssh, self.channel, self.stderr = ssh, channel, channel.makefile_stderr('rb')
    def can_read(self):
        return self.channel.recv_ready()
    def read(self, n=None):
        data = b''
        while len(data) < n:
            more = self.channel.recv(n - len(data))
            if not more:
                break
            data += more
        return data
    def write(self, data):
        self.channel.sendall(data)
        return len(data)
    def close(self):
        self.ssh.close()
class Vendor(client.SSHVendor):
    def run_command(self, host, command, username=None, port=None, **kwargs):
        ssh = paramiko.SSHClient()
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        ssh.connect(host, port, username, key_filename=key, look_for_keys=False, allow_agent=False)
        channel = ssh.get_transport().open_session()
        channel.exec_command(command)
        return Channel(ssh, channel)
client.get_ssh_vendor = Vendor
r = porcelain.clone(url, to, bare=True, errstream=porcelain.NoneStream())
print(r.refs[b'refs/heads/main'].decode())
porcelain.push(r, url, ['refs/heads/main:refs/heads/pushed'], outstream=porcelain.NoneStream(), errstream=porcelain.NoneStream())
