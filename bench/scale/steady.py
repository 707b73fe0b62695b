"""GET /me at a steady rate: who is late by the clock is late, whatever was in the way."""

import asyncio
import time


class Times:
    def __init__(self, milliseconds):
        self.sorted = sorted(milliseconds)

    def at(self, part):
        return self.sorted[min(len(self.sorted) - 1, int(len(self.sorted) * part))]

    def __str__(self):
        return f"p50 {self.at(0.5):6.2f}  p99 {self.at(0.99):6.2f}  max {self.sorted[-1]:7.2f} ms ({len(self.sorted)} requests)"


async def _answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def _run(port, requests, rate, seconds, connections):
    free = asyncio.LifoQueue()
    for _ in range(connections):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    took = []

    async def send(request, due):
        # A wait for a free connection is the service's, too.
        reader, writer = await free.get()
        writer.write(request)
        await _answer(reader)
        took.append((time.perf_counter() - due) * 1000)
        free.put_nowait((reader, writer))

    start, tasks = time.perf_counter(), set()
    for k in range(int(rate * seconds)):
        due = start + k / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        # This program's own timer is not the service's.
        task = asyncio.create_task(send(requests[k % len(requests)], max(due, time.perf_counter()) if wait > 0 else due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return Times(took)


def steady(port, requests, rate, seconds, connections=64):
    """Times of answers to `requests` in turn, `rate` of them a second."""
    return asyncio.run(_run(port, requests, rate, seconds, connections))
