"""Drives a running cluster with etcd3gw, the client that Debian ships, as a program would use it.

Called by etcd3gw.test.ts with the client port. Prints one line per step that passed; ends with
code 1 and the reason at the first that did not.
"""
import sys
import threading
import time

from etcd3gw.client import Etcd3Client

port = int(sys.argv[1])
path = sys.argv[2] if len(sys.argv) > 2 else '/v3/'
client = Etcd3Client(host='127.0.0.1', port=port, api_path=path, timeout=10)


def check(condition, what):
    if not condition:
        print('not ok: ' + what, flush=True)
        sys.exit(1)


def passed(what):
    print('ok: ' + what, flush=True)


def wait_until(condition, seconds, what):
    end = time.time() + seconds
    while not condition():
        check(time.time() < end, what)
        time.sleep(0.05)


def test_put_and_get():
    check(client.put('a', 'b'), 'put')
    check(client.get('a') == [b'b'], 'get')
    check(client.get('missing') == [], 'get of a missing key')
    check(client.put('binary', bytes(range(256))), 'put of all bytes')
    check(client.get('binary') == [bytes(range(256))], 'get of all bytes')
    value, meta = client.get('a', metadata=True)[0]
    check(meta['key'] == b'a' and int(meta['version']) == 1, 'metadata')


def test_prefix():
    for place in range(30):
        client.put('p/%02d' % place, str(place))
    found = list(client.get_prefix('p/', sort_order='descend', sort_target='key'))
    check(len(found) == 30, 'prefix count')
    check(found[0][1]['key'] == b'p/29', 'prefix order')
    check(client.delete_prefix('p/'), 'delete of a prefix')
    check(list(client.get_prefix('p/')) == [], 'prefix is empty')
    check(client.delete('p/00') is False, 'delete of nothing')


def test_transactions():
    check(client.create('t', '1'), 'create')
    check(client.create('t', '2') is False, 'create of what exists')
    check(client.replace('t', '1', '3'), 'replace')
    check(client.replace('t', '1', '4') is False, 'replace of another value')
    check(client.get('t') == [b'3'], 'value after the transactions')


def test_lease():
    lease = client.lease(ttl=3)
    check(client.put('leased', 'x', lease), 'put under a lease')
    check(lease.keys() == [b'leased'], 'keys of the lease')
    for _ in range(8):
        time.sleep(0.5)
        check(lease.refresh() == 3, 'keep-alive')
    check(client.get('leased') == [b'x'], 'key lives while the lease is kept alive')
    wait_until(lambda: client.get('leased') == [], 20, 'key goes when the lease ends')
    check(lease.refresh() == -1, 'keep-alive of a lease that ended')
    check(lease.ttl() == -1, 'ttl of a lease that ended')


def test_watch(kind):
    seen = []
    done = threading.Event()
    if kind == 'key':
        events, cancel = client.watch('w/1')
    else:
        events, cancel = client.watch_prefix('w/')

    def read():
        for event in events:
            seen.append((event.get('type', 'PUT'), event['kv']['key'], event['kv'].get('value')))
        done.set()

    threading.Thread(target=read, daemon=True).start()
    for place in range(20):
        client.put('w/1', str(place))
    client.delete('w/1')
    wait_until(lambda: len(seen) >= 21, 20, 'events of a watched ' + kind)
    cancel()
    wait_until(done.is_set, 20, 'end of the watch of a ' + kind)
    values = [value for _, _, value in seen[:20]]
    check(values == [str(place).encode() for place in range(20)], 'order of events')
    check(seen[20][0] == 'DELETE', 'event of the deletion')


def test_watch_once():
    # Nothing tells when the watch is there, so the key is put until it was seen.
    seen = threading.Event()

    def put():
        while not seen.wait(0.3):
            client.put('once', 'now')

    thread = threading.Thread(target=put)
    thread.start()
    try:
        event = client.watch_once('once', timeout=20)
    finally:
        seen.set()
        thread.join()
    check(event['kv']['value'] == b'now', 'watch_once')


def test_lock():
    first = client.lock('resource', ttl=10)
    second = client.lock('resource', ttl=10)
    check(first.acquire(), 'lock')
    check(second.acquire() is False, 'lock that is held')
    check(first.refresh() == 10, 'keep-alive of a lock')
    check(first.release(), 'unlock')
    check(second.acquire(), 'lock after the unlock')
    check(second.release(), 'second unlock')


def test_cluster():
    check(len(client.members()) == 3, 'members')
    status = client.status()
    check(int(status['header']['raft_term']) > 0, 'status')
    check(all(part.isdigit() for part in status['version'].split('.')), 'version in digits')


test_put_and_get()
passed('put and get')
test_prefix()
passed('prefix')
test_transactions()
passed('transactions')
test_lease()
passed('lease')
test_watch('key')
passed('watch of a key')
test_watch('prefix')
passed('watch of a prefix')
test_watch_once()
passed('watch once')
test_lock()
passed('lock')
test_cluster()
passed('cluster')
