"""Calls at their server: what a connection delivers becomes a handler's task, and what that returns an answer.

- `octomesh._handling.endpoint`: a method, and what handles it.
- `octomesh._handling.failures`: how calls end that their handler did not end well.
- `octomesh._handling.state`: what is known of one call. What is done with that stands in three files, one for each
  class that derives from it: the answer (responding.py), the handler (running.py), and what the connection says
  (call.py).
"""
