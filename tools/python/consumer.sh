#!/usr/bin/env bash
# consumer.sh DIST FLOOR: install the wheel from DIST as a user would, in an environment of its own and outside of the checkout, and run
# what the README shows. protobuf is the oldest that the wheel takes, from the folder FLOOR, so that nothing is fetched.
set -euo pipefail
dist=$(realpath "$1") floor=$(realpath "$2")
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-index "$dist"/octomesh-*.whl
cp -r "$here/sdks/python/tests/readme_example.py" "$here/sdks/python/tests/gen/echo" "$work/"
sed -i "s#127.0.0.1:7000#unix:$work/s#" "$work/readme_example.py"
cat >"$work/main.py" <<'END'
import asyncio

import octomesh
import readme_example as example


async def main() -> None:
    server = asyncio.create_task(example.serve_echo())
    async with octomesh.Channel("echo", direct=[f"unix:{example.__file__.removesuffix('readme_example.py')}s"]) as channel:
        async with asyncio.timeout(10):
            await example.EchoClient(channel).say(example.echo_pb2.Message(text="up"), wait_for_ready=True)
    await example.call_echo()
    await asyncio.to_thread(example.call_from_a_thread)
    await example.test_say()
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)
    assert "site-packages" in octomesh.__file__, octomesh.__file__


asyncio.run(main())
END
cd "$work"
said=$(PYTHONPATH=$floor timeout 60 venv/bin/python -W error main.py)
want=$(printf 'hello\nhello\n' && seq 0 9)
[ "$said" = "$want" ] || { echo "consumer.sh: the README's example printed:"; echo "$said"; exit 1; }
echo "octomesh's wheel works in an environment of its own"
