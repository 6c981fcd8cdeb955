"""What this process has to do with Directories (proto/spec/directory.md): it asks them, and tells them.

- `octomesh._directory.calls`: the calls to a Directory.
- `octomesh._directory.lines`: the ways to the proxy's Directory and to those of the control plane.
- `octomesh._directory.watch`: where the channels of a loop learn of targets; those that are alike share it.
- `octomesh._directory.watcher`: what a target's sources say: the proxy, the control plane, the disk.
- `octomesh._directory.report`: what was measured goes to a Directory.
- `octomesh._directory.registrar`: a server's instance is made known, and withdrawn before it stops.
"""
