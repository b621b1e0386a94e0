"""A client of the first published interface, in Python, against a controller of today.

    client.py ENDPOINT PROTO

Generates its code from PROTO, compares every field of it with what the controller says of itself
(server reflection), then makes the calls. Any difference ends it with an exception. It expects a
controller with an empty registry, that takes the caller for an operator.
"""

import sys
import tempfile
import time
from pathlib import Path

import grpc
import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_tools import protoc

# Of one call, and of a wait for what must come about. Generous: machines are slow and busy.
BOUND = 30


def generate(proto):
    """The modules of messages and of stubs, and the descriptors, made of `proto`."""
    folder = Path(tempfile.mkdtemp(prefix="weir-compatibility-"))
    # Where the well-known types are.
    shipped = Path(grpc_tools.__file__).parent / "_proto"
    descriptors = folder / "seed.bin"
    (folder / "seed.proto").write_text(Path(proto).read_text())
    code = protoc.main([
        "protoc", f"-I{folder}", f"-I{shipped}", f"--python_out={folder}",
        f"--grpc_python_out={folder}", f"--descriptor_set_out={descriptors}", "seed.proto",
    ])
    assert code == 0, f"protoc: exit code {code}"
    sys.path.insert(0, str(folder))
    import seed_pb2
    import seed_pb2_grpc

    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    return seed_pb2, seed_pb2_grpc, files[0]


def messages_of(file):
    """Messages by full name; those within messages (the entries of maps) too."""
    found = {}

    def walk(prefix, messages):
        for message in messages:
            name = f"{prefix}.{message.name}"
            found[name] = message
            walk(name, message.nested_type)

    walk(file.package, file.message_type)
    return found


def described(channel):
    """What the controller says that it speaks: the file that holds the service."""
    call = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="weir.v1.LBControlPlane")
    answer = next(call(iter([request]), timeout=BOUND))
    assert answer.HasField("file_descriptor_response"), answer
    files = answer.file_descriptor_response.file_descriptor_proto
    files = [descriptor_pb2.FileDescriptorProto.FromString(one) for one in files]
    return next(file for file in files if any(s.name == "LBControlPlane" for s in file.service))


def compare(seed, today):
    """Every call and field of the seed is there today, with its number and its wire type."""
    field = descriptor_pb2.FieldDescriptorProto
    calls = {method.name: method for service in today.service for method in service.method}
    for service in seed.service:
        for method in service.method:
            now = calls[method.name]
            then = (method.input_type, method.output_type,
                    method.client_streaming, method.server_streaming)
            assert then == (now.input_type, now.output_type,
                            now.client_streaming, now.server_streaming), method.name
    now_messages = messages_of(today)
    compared = 0
    for name, message in messages_of(seed).items():
        now_fields = {one.name: one for one in now_messages[name].field}
        for then in message.field:
            now = now_fields[then.name]
            what = f"{name}.{then.name}"
            assert now.number == then.number, f"{what}: {then.number} then, {now.number} today"
            assert now.label == then.label, f"{what}: label"
            # On the wire an enumeration is a number.
            kinds = {then.type, now.type}
            assert len(kinds) == 1 or kinds == {field.TYPE_UINT32, field.TYPE_ENUM}, what
            assert field.TYPE_MESSAGE not in kinds or then.type_name == now.type_name, what
            compared += 1
    assert compared > 40, compared


class Snapshots:
    """The stream of a pool's snapshots: the newest, and waits for one that is as it should be."""

    def __init__(self, stub, messages, pool):
        self.call = stub.WatchPool(messages.WatchPoolReq(pool_id=pool), timeout=4 * BOUND)
        self.pool = pool
        self.version = 0

    def until(self, what, holds):
        end = time.monotonic() + BOUND
        for snapshot in self.call:
            # A marker of later releases: nothing in it for this client.
            if not snapshot.pool_id:
                continue
            assert snapshot.pool_id == self.pool, snapshot
            assert snapshot.version > self.version, "versions only go up"
            self.version = snapshot.version
            if holds({backend.backend_id: backend for backend in snapshot.backends}, snapshot):
                return snapshot
            assert time.monotonic() < end, f"no snapshot with {what}"
        raise AssertionError(f"the stream ended before {what}")


def refused(code, word, call, request):
    """The call is refused with this status, and the sentence names the field."""
    try:
        call(request, timeout=BOUND)
    except grpc.RpcError as error:
        assert error.code() == code, error
        assert word in error.details(), error
        return
    raise AssertionError(f"not refused with {code}: {request}")


def wait_for_leader(stub, messages):
    """The controller is elected, and creates a pool."""
    end = time.monotonic() + BOUND
    while True:
        try:
            return stub.CreatePool(messages.CreatePoolReq(pool_id="web"), timeout=BOUND)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise
            time.sleep(0.1)


def backend(messages, **changes):
    fields = {
        "pool_id": "web", "backend_id": "host-42-nic0", "ip": "192.0.2.11", "port": 8080,
        "weight": 50, "labels": {"az": "a", "rack": "7", "version": "3"},
        "readiness_probe_url": "http://192.0.2.11:8080/ready",
    }
    return messages.RegisterBackendReq(**{**fields, **changes})


def exercise(stub, messages):
    code = grpc.StatusCode
    pool = wait_for_leader(stub, messages)
    assert pool.pool_id == "web", pool
    stub.CreatePool(messages.CreatePoolReq(pool_id="web"), timeout=BOUND)

    vip = messages.VIP(address="203.0.113.1", first_port=80, last_port=80, protocol=1)
    bind = messages.BindVIPReq(pool_id="web", vip=vip)
    first = stub.BindVIPToPool(bind, timeout=BOUND)
    assert first.revision > 0, first
    assert stub.BindVIPToPool(bind, timeout=BOUND).revision == first.revision, "idempotent"
    refused(code.NOT_FOUND, "pool_id", stub.BindVIPToPool,
            messages.BindVIPReq(pool_id="none", vip=vip))
    for change in ({"first_port": 0}, {"last_port": 79}, {"protocol": 0}, {"address": "x"}):
        broken = messages.VIP()
        broken.CopyFrom(vip)
        for name, value in change.items():
            setattr(broken, name, value)
        refused(code.INVALID_ARGUMENT, "vip", stub.BindVIPToPool,
                messages.BindVIPReq(pool_id="web", vip=broken))

    stub.RegisterBackend(backend(messages), timeout=BOUND)
    stub.RegisterBackend(backend(messages), timeout=BOUND)
    # Each field is read: another value of it is another registration.
    for name, value in {
        "ip": "192.0.2.12", "port": 8081, "weight": 51, "labels": {"az": "b"},
        "readiness_probe_url": "http://192.0.2.11:8080/other",
    }.items():
        refused(code.ALREADY_EXISTS, name, stub.RegisterBackend, backend(messages, **{name: value}))
    refused(code.INVALID_ARGUMENT, "ip", stub.RegisterBackend, backend(messages, ip="host"))
    refused(code.INVALID_ARGUMENT, "port", stub.RegisterBackend, backend(messages, port=0))
    refused(code.NOT_FOUND, "pool_id", stub.RegisterBackend, backend(messages, pool_id="none"))

    snapshots = Snapshots(stub, messages, "web")
    seen = snapshots.until("the backend", lambda backends, _: "host-42-nic0" in backends)
    assert seen.table.size == 65537, seen.table.size
    entry = seen.backends[0]
    assert (entry.ip, entry.port) == ("192.0.2.11", 8080), entry

    # A weight of its own, in place of the one registered: the first registration is another now.
    update = messages.UpdateBackendReq(backend_id="host-42-nic0", weight=7, labels={"rack": "8"})
    assert stub.UpdateBackend(update, timeout=BOUND).revision > first.revision
    refused(code.ALREADY_EXISTS, "weight", stub.RegisterBackend, backend(messages))
    now = {"weight": 7, "labels": {"az": "a", "rack": "8", "version": "3"}}
    stub.RegisterBackend(backend(messages, **now), timeout=BOUND)

    # A second one with the default weight.
    second = backend(messages, backend_id="host-43", ip="192.0.2.12", weight=0)
    stub.RegisterBackend(second, timeout=BOUND)
    stub.RegisterBackend(backend(messages, backend_id="host-43", ip="192.0.2.12", weight=100),
                         timeout=BOUND)
    snapshots.until("both", lambda backends, _: len(backends) == 2)

    report_health(stub, messages)

    drain = messages.DrainBackendReq(backend_id="host-42-nic0")
    stub.DrainBackend(drain, timeout=BOUND)
    stub.DrainBackend(drain, timeout=BOUND)
    # DRAINING is 3, and gets no new flows.
    snapshots.until("the drain", lambda backends, _: backends["host-42-nic0"].state == 3
                    and backends["host-42-nic0"].weight == 0)
    refused(code.NOT_FOUND, "backend_id", stub.DrainBackend,
            messages.DrainBackendReq(backend_id="none"))

    gone = messages.DeregisterBackendReq(backend_id="host-43")
    stub.DeregisterBackend(gone, timeout=BOUND)
    stub.DeregisterBackend(gone, timeout=BOUND)
    snapshots.until("the other's drain", lambda backends, _: backends["host-43"].state == 3)
    refused(code.NOT_FOUND, "backend_id", stub.DeregisterBackend,
            messages.DeregisterBackendReq(backend_id="none"))
    snapshots.call.cancel()


def report_health(stub, messages):
    """Every report is answered, in order, for what it was about.

    The first interface had no name for a checker, without which no quorum can be counted: whether
    a report without one is taken into account is the controller's decision. It says so.
    """
    reports = [
        messages.HealthReport(
            backend_id=backend_id, state=messages.HEALTHY, checked_at_ns=1_000 + number,
            consecutive_pass=2 + number, consecutive_fail=0, probe_latency_us="431")
        for number, backend_id in enumerate(["host-42-nic0", "host-43", "none"])
    ]
    answers = stub.ReportHealth(iter(reports), timeout=BOUND)
    for report, answer in zip(reports, answers, strict=True):
        assert answer.backend_id == report.backend_id, answer
        assert answer.checked_at_ns == report.checked_at_ns, answer
        assert answer.accepted or answer.reason, "a refusal says why"
    assert not answer.accepted, "of a backend that nobody knows"


def main():
    endpoint, proto = sys.argv[1:]
    messages, stubs, seed = generate(proto)
    # Of this machine: what the environment says of proxies does not concern it.
    with grpc.insecure_channel(endpoint, options=[("grpc.enable_http_proxy", 0)]) as channel:
        grpc.channel_ready_future(channel).result(timeout=BOUND)
        compare(seed, described(channel))
        exercise(stubs.LBControlPlaneStub(channel), messages)
    print("compatible")


main()
