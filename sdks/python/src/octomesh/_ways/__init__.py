"""The ways of a call: through the local proxy, or direct to an instance (proto/spec/switch.md).

`octomesh._decide` decides, and knows neither loops nor connections; what is here has them do it.

- `octomesh._ways.config`: the settings of a channel.
- `octomesh._ways.target`: what is known of a target, and what is measured on its paths: `octomesh._directory`
  feeds the one and takes the other.
"""
