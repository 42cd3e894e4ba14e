"""Ports for servers of tests."""
import random, socket


def port_range():
    """ports that outgoing connections do not take"""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as f: low, high = map(int, f.read().split())
    except (OSError, ValueError): low, high = 32768, 60999
    outside = [port for port in range(10000, 65000) if not low <= port <= high]
    return outside if len(outside) > 1000 else range(10000, 32000)


PORTS = port_range()
reserved = []


def free_ports(n):
    """n ports nobody listens on.  Until this process ends no other test gets them: not before the server is started, nor while it is down."""
    ports = []
    while len(ports) < n:
        port = random.choice(PORTS)
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind("\0tempo_pg test port %d" % port)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s: s.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        reserved.append(name)
        ports.append(port)
    return ports
